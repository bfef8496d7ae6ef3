"""Why an update was skipped: the reasons, in the words of `events.jsonl` and of the log's counters."""

# "nan" stands for every value that is not finite: NaN and both infinities.
REASONS = ("rate_nan", "distortion_nan", "grad_nan", "high_grad")
NAN_REASONS = ("rate_nan", "distortion_nan", "grad_nan")
