"""The executables, and the only place where concrete parts are wired together.

jobd            serve, init, accounts, node          jobd.py  serve.py
paddle          for users: mount, submit, get, logs   paddle.py  mount.py  umount.py  mountstatus.py
mount.fuse.pfs  for mount(8), /etc/fstab and systemd  mountfuse.py
pit             for users who come from Snakepit      pit.py
gradient-node   the node daemon                       gradient_node.py  nodeoptions.py
"""
