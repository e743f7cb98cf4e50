"""What turns a Machine into a Kubernetes node by way of kubeadm: certificates, tokens, kubeadm's documents, bootstrap data. Pure."""
