# Says whether the worker runs.
if running; then report running; else say stopped; fi
