"""The programs in `uses/` are for `check.py`, in environments of their own."""

collect_ignore_glob = ["uses/*"]
