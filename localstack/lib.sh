# shellcheck shell=bash disable=SC2034
# Shared by up, down, env and check. Sourced, never run.

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
local_dir=$here/.local
# Somebody who wants emulators of his own names a directory of his own; what is installed is shared.
state_dir=${LEASELOCK_LOCALSTACK_DIR:-$local_dir}
run_dir=$state_dir/run
data_dir=$state_dir/data
log_dir=$state_dir/log

ready_seconds=60

# A store is one URL for the tests; it takes one process, except GCS.
all_stores=(ministack seaweedfs azurite gcs)

variable_of() { # store
  local upper
  upper=$(printf '%s' "$1" | tr '[:lower:]' '[:upper:]')
  printf 'LEASELOCK_TEST_%s' "$upper"
}

# In the order in which they stop.
processes_of() { # store
  case $1 in
    gcs) echo "gcs-bridge fake-gcs-server" ;;
    *) echo "$1" ;;
  esac
}

die() {
  echo "localstack: $*" >&2
  exit 1
}

check_names() {
  local name
  for name in "$@"; do
    case " ${all_stores[*]} " in
      *" $name "*) ;;
      *) die "unknown store '$name' (known: ${all_stores[*]})" ;;
    esac
  done
}

# When a process started: with the pid, this names a process for good, for a
# pid alone may meanwhile belong to somebody else.
started_at() { # pid
  local stat
  if [[ -r /proc/self/stat ]]; then
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    stat=${stat##*) } # the name in parentheses may contain blanks
    # shellcheck disable=SC2086
    set -- $stat
    [[ $1 != Z ]] || return 1 # a zombie has ended
    echo "${20}"
  else
    stat=$(ps -o lstart= -p "$1" 2>/dev/null) || return 1
    [[ -n $stat ]] && echo "$stat"
  fi
}

# The pid that `up` recorded, if that very process is still there.
pid_of() { # process
  local pid='' start='' now
  [[ -f $run_dir/$1.pid ]] || return 1
  { read -r pid && read -r start; } <"$run_dir/$1.pid" || return 1
  [[ $pid =~ ^[0-9]+$ && -n $start ]] || return 1
  now=$(started_at "$pid") || return 1
  [[ $now == "$start" ]] && echo "$pid"
}

store_alive() { # store
  local process
  for process in $(processes_of "$1"); do
    pid_of "$process" >/dev/null || return 1
  done
}

store_known() { # store
  local process
  for process in $(processes_of "$1"); do
    [[ ! -f $run_dir/$process.pid ]] || return 0
  done
  return 1
}

# Starts a command as a group and a session of its own, away from this
# terminal, and writes down which process that is, and how to start it again.
launch() { # process command…
  local process=$1 pid
  shift
  mkdir -p "$data_dir/$process"
  printf '%s\0' "$@" >"$run_dir/$process.command"
  (
    cd "$data_dir/$process" || exit
    exec env TMPDIR="$data_dir/$process" python3 -c \
      'import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])' "$@"
  ) </dev/null >>"$log_dir/$process.log" 2>&1 9>&- &
  pid=$!
  printf '%s\n%s\n' "$pid" "$(started_at "$pid")" >"$run_dir/$process.pid"
}

# Waits until a store keeps its promise: creates `locks`, then one object of
# two, with a request each.
await() { # store url
  local process pids=()
  for process in $(processes_of "$1"); do
    pids+=("$(sed -n 1p "$run_dir/$process.pid")")
  done
  "$here/stores" await "$2" "$ready_seconds" "${pids[@]}" && return
  for process in $(processes_of "$1"); do
    echo "--- $process, the end of its log:" >&2
    tail -n 30 "$log_dir/$process.log" >&2 || true
  done
  return 1
}

# Its data stay.
end_process() { # process signal
  local pid port i
  if pid=$(pid_of "$1"); then
    # Each leads a process group of its own: the group takes its children along.
    # (Before it does, in its first moments, it is alone.)
    kill "-$2" -- "-$pid" 2>/dev/null || kill "-$2" "$pid" 2>/dev/null || true
    for ((i = 0; i < 50; i++)); do
      pid_of "$1" >/dev/null || break
      sleep 0.1
    done
    kill -KILL -- "-$pid" 2>/dev/null || true
    for ((i = 0; i < 20; i++)); do
      pid_of "$1" >/dev/null || break
      sleep 0.1
    done
    if pid_of "$1" >/dev/null; then
      echo "localstack: $1 (pid $pid) does not end" >&2
      return 1
    fi
  fi
  if [[ $1 == seaweedfs && -f $run_dir/seaweedfs.ports ]]; then
    # Killed, it leaves its gRPC sockets behind.
    for port in $(<"$run_dir/seaweedfs.ports"); do
      rm -f /tmp/seaweedfs-{master,volume,filer,s3,admin}-grpc-$((port + 10000)).sock
    done
  fi
  rm -f "$run_dir/$1.pid"
}

stop_process() { # process
  end_process "$1" TERM || return
  rm -f "$run_dir/$1.ports" "$run_dir/$1.command"
  rm -rf "${data_dir:?}/$1"
}

forget_env() { # store
  [[ -f $run_dir/env ]] || return 0
  grep -v "^export $(variable_of "$1")=" "$run_dir/env" >"$run_dir/env.new" || true
  if [[ -s $run_dir/env.new ]]; then
    mv "$run_dir/env.new" "$run_dir/env"
  else
    rm -f "$run_dir/env.new" "$run_dir/env"
  fi
}

url_of() { # store
  local line variable
  variable=$(variable_of "$1")
  line=$(grep "^export $variable=" "$run_dir/env" 2>/dev/null) || return 1
  line=${line#*=\'}
  printf '%s\n' "${line%\'}"
}

stop_store() { # store
  local process failed=0
  forget_env "$1"
  for process in $(processes_of "$1"); do
    stop_process "$process" || failed=1
  done
  return $failed
}

# One `up` or `down` at a time.
take_turn() {
  mkdir -p "$local_dir" "$state_dir"
  exec 9>"$state_dir/lock"
  if command -v flock >/dev/null; then
    flock -w 900 9 || die "another up or down has been at work for 15 minutes"
  fi
}
