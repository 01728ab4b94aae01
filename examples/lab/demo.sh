cmd_demo() { die "later"; }
