"""strongroom: confidential AI on machines that you do not own. See README.md."""
