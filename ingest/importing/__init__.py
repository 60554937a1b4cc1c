"""Published SAEs: reading every format, finding their place, checking what is said of them."""
