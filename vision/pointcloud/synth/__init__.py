"""Generated LiDAR scans with labels: a street is laid out, a sensor is turned, rays end on surfaces."""
