"""What training costs on this machine."""
