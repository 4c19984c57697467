"""pLSTM: its recurrence on a sequence and on a grid."""
