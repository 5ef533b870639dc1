# Starts a worker. Set before: settle (seconds), coordinator, and the worker's arguments.
say "machine $(uname -sm)"
read -r how what || exit 0
mkdir -p "$dir" || fail "cannot make $dir"
if command -v flock >/dev/null; then
  exec 9> "$dir/lock"
  # Korn shells hand such a descriptor on only where it is named.
  flock -w 30 9 9>&9 || fail "somebody else is starting this worker"
fi
if running; then
  theirs=
  { read -r theirs < "$dir/for"; } 2>/dev/null
  if [ -n "$theirs" ] && [ "$theirs" != "$coordinator" ]; then
    fail "a worker of the fleet $fleet runs here for another coordinator, at ${theirs%% *}: stop it, or name this fleet otherwise"
  fi
  report running
  exit 0
fi

# The program.
hash_of() { sha256sum < "$1" 2>/dev/null | cut -c 1-64; }
case $how in
at)
  program=$what
  say have
  ;;
copy)
  command -v sha256sum >/dev/null || fail "there is no sha256sum here"
  mkdir -p "$bin" || fail "cannot make $bin"
  program=$bin/optwasm-$what
  if [ -f "$program" ] && [ "$(hash_of "$program")" = "$what" ]; then say have; else say want; how=want; fi
  ;;
*) exit 0 ;;
esac
read -r token || exit 0
if [ "$how" = want ]; then
  # Its own name, for other hosts may share the folder.
  draft=$program.$(uname -n).$$
  cat > "$draft"
  if [ "$(hash_of "$draft")" != "$what" ]; then
    rm -f "$draft"
    fail "the program did not arrive whole; is there room in $bin?"
  fi
  chmod 700 "$draft" && mv -f "$draft" "$program" || fail "cannot write $program"
else
  cat >/dev/null
fi
version=$("$program" --version 2>&1 </dev/null) || fail "the program does not run here: $version"

# The token: `echo` is built into every shell, so it is in no list of processes.
rm -f "$dir/token.new" "$dir/pid"
echo "$token" > "$dir/token.new" && mv -f "$dir/token.new" "$dir/token" || fail "cannot write $dir/token"
printf '%s\n' "$version" > "$dir/version"
printf '%s\n' "$coordinator" > "$dir/for"

# Who logs out takes the processes of the session along on some systems. A scope of the user's own
# service manager outlives it, but only where that manager does.
set -- "$program" "$@" "--token-file=$dir/token"
via=setsid
if [ "$(loginctl show-user "$(id -un)" --property=Linger --value 2>/dev/null)" = yes ] &&
  systemd-run --user --scope --quiet --collect true >/dev/null 2>&1; then
  via=systemd
  set -- systemd-run --user --scope --quiet --collect -- "$@"
fi
# It writes the pid file itself and then becomes the worker, with the same pid and start.
become='file=$1 boot=$2 since=$3 via=$4
shift 4
ticks=$(sed "s/.*) //" /proc/$$/stat | cut -d " " -f 20)
echo "$$ $ticks $boot $since $via" > "$file.new" && mv -f "$file.new" "$file" && exec "$@"'
detach=setsid
command -v setsid >/dev/null || detach=nohup
[ -f "$dir/log" ] || : > "$dir/log"
length=$(wc -c < "$dir/log")
cd "$dir" || fail "cannot use $dir"
"$detach" sh -c "$become" sh "$dir/pid" "$(boot)" "$(date +%s)" "$via" "$@" </dev/null >> "$dir/log" 2>&1 9>&- &

tries=0
until [ -f "$dir/pid" ] || [ "$tries" -ge 100 ]; do
  pause
  tries=$((tries + 1))
done
sleep "$settle"
if running; then
  report started
else
  rm -f "$dir/pid" "$dir/token"
  say died
  tail -c "+$((length + 1))" "$dir/log" | tail -n 20
fi
