"""Images behind http and https, from hosts that the user has named."""
