"""What surrounds a running Rowtide: units, configurations, and the stack of servers it works with."""
