"""Who is served when, and with whom: the line of waiting requests, and calls that several share."""
