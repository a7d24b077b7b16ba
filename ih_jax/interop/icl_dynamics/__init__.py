"""What the authors' own code (github aadityasingh/icl-dynamics) writes and takes."""
