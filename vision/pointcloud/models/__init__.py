"""Networks: the bird's-eye network without recurrence, LION, and what they share."""
