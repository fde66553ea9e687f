"""The doors of the server: HTTP, channels, bulk bytes, descriptors. Inside is the tree with leases."""
