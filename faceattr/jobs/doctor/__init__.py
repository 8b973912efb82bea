"""`faceattr doctor`: is everything here that a run needs? Each line says ok, or what to do."""
