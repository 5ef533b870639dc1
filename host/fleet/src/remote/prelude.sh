# What the scripts share. Set before: fleet, id, root.
set -uf
umask 077
LC_ALL=C
export LC_ALL
say() { printf '@optwasm-fleet %s\n' "$*"; }
fail() { say "failed $*"; exit 0; }
[ -r /proc/self/stat ] || fail "there is no /proc here"
if [ -n "$root" ]; then
  bin=$root/bin
  dir=$root/fleet/$fleet/$id
else
  [ -n "${HOME:-}" ] || fail "there is no home directory"
  bin=${XDG_CACHE_HOME:-$HOME/.cache}/optwasm/bin
  dir=${XDG_STATE_HOME:-$HOME/.local/state}/optwasm/fleet/$fleet/$id
fi
boot() { cat /proc/sys/kernel/random/boot_id; }
# The process that the pid file names, where it is still that one: a pid alone may have been given
# to another since, but not with the same start, in clock ticks since the same boot.
running() {
  { read -r pid ticks boot since via < "$dir/pid"; } 2>/dev/null || return 1
  case $pid in '' | 0 | 1 | *[!0-9]*) return 1 ;; esac
  case $since in "" | *[!0-9]*) return 1 ;; esac
  [ "$boot" = "$(boot)" ] || return 1
  stat=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1
  stat=${stat##*) }
  case $stat in Z*) return 1 ;; esac
  [ "$(printf '%s' "$stat" | cut -d ' ' -f 20)" = "$ticks" ]
}
report() {
  version=
  { read -r version < "$dir/version"; } 2>/dev/null
  say "$1 $pid $(($(date +%s) - since)) $via $version"
}
pause() { sleep 0.1 2>/dev/null || sleep 1; }
