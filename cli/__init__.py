"""The executables, and the only place where concrete parts are wired together.

jobd            serve, init, accounts, node          jobd.py  server/
paddle          for users: mount, submit, get, logs   paddle.py  entering.py  cloud/  mount/  submit/
mount.fuse.pfs  for mount(8), /etc/fstab and systemd  mount/fuse.py
pit             for users who come from Snakepit      pit.py  snakepit/  submit/
gradient-node   the node daemon                       gradient_node.py  node/
Python programs the services that commands use        sdk/
"""
