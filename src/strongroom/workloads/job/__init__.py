"""Jobs: anyone's own code, run once on sealed inputs in a confined child; sealed outputs and a receipt are all that comes out."""
