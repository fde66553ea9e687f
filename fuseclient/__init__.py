"""The mount: a datacenter's tree as a file system of the kernel. It knows nodes and errors, and no job."""
