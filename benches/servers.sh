# shellcheck shell=bash disable=SC2154
# The peers' servers, on the loopback interface. Sourced by benches/run, never run; it names the
# directory $work in which they live.

ready_seconds=60
redlock_servers=5
server_pids=()

# The newest PostgreSQL that is installed.
postgres_bin() {
  local bins=(/usr/lib/postgresql/*/bin)
  [[ -x ${bins[-1]}/postgres ]] && echo "${bins[-1]}"
}

install_servers() {
  local missing=()
  command -v redis-server >/dev/null || missing+=(redis-server)
  command -v etcd >/dev/null || missing+=(etcd-server)
  [[ -e /usr/share/java/zookeeper.jar ]] || missing+=(zookeeper)
  postgres_bin >/dev/null || missing+=(postgresql)
  # Built from etcd's own definitions of its requests.
  command -v protoc >/dev/null || missing+=(protobuf-compiler)
  [[ -e /usr/include/google/protobuf/descriptor.proto ]] || missing+=(libprotobuf-dev)
  [[ ${#missing[@]} -gt 0 ]] || return 0
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then die "install ${missing[*]}"; fi
  echo "benches: installing ${missing[*]}"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$work/apt.log" 2>&1 || {
    tail -n 20 "$work/apt.log" >&2
    die "could not install ${missing[*]}"
  }
}

# Starts a command in the background and notes its pid, which is also its group.
launch() { # server command…
  local server=$1
  shift
  setsid "$@" </dev/null >"$work/$server.log" 2>&1 &
  server_pids+=("$!")
}

# Waits until a command succeeds, for as long as the server that was launched last lives.
await() { # server command…
  local server=$1 pid=${server_pids[-1]} end=$((SECONDS + ready_seconds))
  shift
  until "$@" >/dev/null 2>&1; do
    if ! kill -0 "$pid" 2>/dev/null || ((SECONDS > end)); then
      tail -n 20 "$work/$server.log" >&2
      die "$server did not become ready"
    fi
    sleep 0.1
  done
}

stop_servers() {
  local pid i
  for pid in "${server_pids[@]}"; do
    # The second one tells PostgreSQL not to wait for its clients.
    kill -TERM -- "-$pid" 2>/dev/null || true
    kill -INT -- "-$pid" 2>/dev/null || true
  done
  for pid in "${server_pids[@]}"; do
    for ((i = 0; i < 50; i++)); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL -- "-$pid" 2>/dev/null || true
  done
  server_pids=()
}

start_redis() { # name port
  mkdir -p "$work/$1"
  # Nothing is written to disk: a restarted server has forgotten all locks.
  launch "$1" redis-server --port "$2" --bind 127.0.0.1 --dir "$work/$1" --save "" --appendonly no
  await "$1" redis-cli -h 127.0.0.1 -p "$2" ping
}

start_etcd() { # port port
  local client=http://127.0.0.1:$1 peer=http://127.0.0.1:$2
  launch etcd etcd --data-dir "$work/etcd" --listen-client-urls "$client" --advertise-client-urls "$client" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer" \
    --logger zap --log-level error
  await etcd python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/health")' "$client"
}

start_zookeeper() { # port
  mkdir -p "$work/zookeeper"
  cat >"$work/zookeeper/zoo.cfg" <<EOF
dataDir=$work/zookeeper
clientPort=$1
clientPortAddress=127.0.0.1
tickTime=2000
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=srvr
EOF
  launch zookeeper java -cp /etc/zookeeper/conf:/usr/share/java/zookeeper.jar -Dzookeeper.log.dir="$work" \
    org.apache.zookeeper.server.quorum.QuorumPeerMain "$work/zookeeper/zoo.cfg"
  await zookeeper python3 -c 'import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2) as s:
    s.sendall(b"srvr")
    answer = b"".join(iter(lambda: s.recv(4096), b""))
sys.exit(b"Mode: standalone" not in answer)' "$1"
}

start_postgres() { # port
  local bin data=$work/postgres as=()
  bin=$(postgres_bin)
  mkdir -p "$data"
  if [[ $(id -u) == 0 ]]; then
    # It refuses to be root.
    as=(setpriv --reuid postgres --regid postgres --clear-groups)
    "${as[@]}" test -x "$data" 2>/dev/null || {
      data=$(mktemp -d)
      elsewhere+=("$data")
    }
    chown postgres:postgres "$data"
  fi
  "${as[@]}" "$bin/initdb" -D "$data" -U peers -A trust -E UTF8 >"$work/initdb.log" 2>&1 || {
    tail -n 20 "$work/initdb.log" >&2
    die "could not make a PostgreSQL cluster"
  }
  launch postgres "${as[@]}" "$bin/postgres" -D "$data" -p "$1" -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories= -c max_connections=300
  await postgres "$bin/pg_isready" -h 127.0.0.1 -p "$1"
}

# Starts all and names them in PEERS_* variables.
start_servers() {
  local ports i addresses=()
  read -r -a ports <<<"$(localstack/stores free-ports $((redlock_servers + 5)))"
  echo "benches: starting Redis, etcd, ZooKeeper and PostgreSQL"
  start_redis redis "${ports[0]}"
  for ((i = 1; i <= redlock_servers; i++)); do
    start_redis "redlock-$i" "${ports[4 + i]}"
    addresses+=("127.0.0.1:${ports[4 + i]}")
  done
  start_etcd "${ports[1]}" "${ports[2]}"
  start_zookeeper "${ports[3]}"
  start_postgres "${ports[4]}"
  export PEERS_REDIS=127.0.0.1:${ports[0]}
  export PEERS_REDLOCK
  PEERS_REDLOCK=$(IFS=,; echo "${addresses[*]}")
  export PEERS_ETCD=http://127.0.0.1:${ports[1]}
  export PEERS_ZOOKEEPER=127.0.0.1:${ports[3]}
  export PEERS_POSTGRES="host=127.0.0.1 port=${ports[4]} user=peers dbname=postgres"
}

# ministack once more, so many milliseconds away.
start_far() { # program
  local delay port near ports
  near=$(sed -n 's|.*aws_endpoint=http://\([0-9.:]*\).*|\1|p' <<<"$LEASELOCK_TEST_MINISTACK")
  read -r -a ports <<<"$(localstack/stores free-ports 3)"
  for delay in 0 10 50; do
    port=${ports[0]}
    ports=("${ports[@]:1}")
    launch "far-$delay" "$1" far "127.0.0.1:$port" "$near" "$delay"
    await "far-$delay" python3 -c 'import socket, sys
socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2).close()' "$port"
    export "PEERS_FAR_$delay=${LEASELOCK_TEST_MINISTACK/"$near"/127.0.0.1:$port}"
  done
}

# What the servers call themselves.
tell_versions() {
  export PEERS_VERSION_REDIS PEERS_VERSION_ETCD PEERS_VERSION_ZOOKEEPER PEERS_VERSION_POSTGRESQL
  export PEERS_VERSION_JAVA PEERS_VERSION_RUST PEERS_VERSION_EMULATORS
  PEERS_VERSION_REDIS=$(redis-server --version | sed -n 's/.*v=\([^ ]*\).*/\1/p')
  PEERS_VERSION_ETCD=$(etcd --version | sed -n 's/^etcd Version: //p')
  PEERS_VERSION_ZOOKEEPER=$(dpkg-query -W -f '${Version}' zookeeper 2>/dev/null || echo unknown)
  PEERS_VERSION_POSTGRESQL=$("$(postgres_bin)/postgres" --version | sed 's/^[^0-9]*//')
  PEERS_VERSION_JAVA=$(java -version 2>&1 | sed -n '1s/[^"]*"\([^"]*\)".*/\1/p')
  PEERS_VERSION_RUST=$(rustc --version | cut -d' ' -f2)
  PEERS_VERSION_EMULATORS=$(sed -n 's/^\(python\|node\)_packages=(\(.*\))$/\2/p' localstack/up | tr '\n' ' ' | sed 's/ $//')
}
