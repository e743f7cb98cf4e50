"""How a host becomes a Node, in three parts that know nothing of each other: bootstrapper, format, transport.

A *bootstrapper* says which files and which command make a Node (``kubeadm``, ``kubelet``); a *format* writes that down for the program that reads user
data on the host (cloud-config, Ignition, cloudbase-init); a *transport* decides what of it stands in the user data and what the host fetches. All pure.
"""
