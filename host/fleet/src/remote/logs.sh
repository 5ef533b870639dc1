# Prints the end of the worker's log. Set before: lines.
if [ -f "$dir/log" ]; then
  say log
  tail -n "$lines" "$dir/log"
else
  say nolog
fi
