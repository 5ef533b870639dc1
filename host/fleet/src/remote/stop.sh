# Ends the worker. Set before: grace (seconds).
how=none
if running; then
  how=ended
  kill -s TERM "$pid" 2>/dev/null
  tries=0
  limit=$(($(date +%s) + grace))
  while running && [ "$(date +%s)" -lt "$limit" ]; do
    pause
  done
  if running; then
    how=killed
    # It leads a group of its own, to which its children belong.
    kill -s KILL -- "-$pid" 2>/dev/null || kill -s KILL "$pid" 2>/dev/null
    tries=0
    while running && [ "$tries" -lt 50 ]; do
      pause
      tries=$((tries + 1))
    done
    running && fail "process $pid does not end"
  fi
fi
rm -f "$dir/pid" "$dir/token"
say "ended $how"
