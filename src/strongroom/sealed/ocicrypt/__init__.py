"""The second profile: layers encrypted as ocicrypt does it, which skopeo, containerd and Confidential Containers read."""
