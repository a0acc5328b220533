"""What Intel TDX and SGX share (DCAP): platform certificates, TCB info, identities of enclaves. Not a kind of evidence."""
