"""Parts around recurrent units."""
