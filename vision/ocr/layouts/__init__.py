"""Files of other programs: their networks, codecs and line preparation."""
