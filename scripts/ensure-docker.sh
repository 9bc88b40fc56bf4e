#!/usr/bin/env bash
# Makes sure that a Docker engine answers. On Debian and Ubuntu, as root, it
# installs the engine and starts it; elsewhere it says what to install.
#
#   scripts/ensure-docker.sh           install and start the engine if none answers
#   scripts/ensure-docker.sh --stop    stop the engine if this script started it by
#                                      hand and no container runs in it
#   scripts/ensure-docker.sh --check   only report, by the exit code
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

state=/run/pancake-docker # where an engine started by hand keeps its pid and its log
wait_s=60                 # how long an engine may take to answer after its start

answers() { timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# ours prints the pid of the engine that an earlier run started, if it still runs.
# A process that has ended but that nobody waited for has no executable.
ours() {
	local pid exe
	pid=$(cat $state/dockerd.pid 2>/dev/null) || return 1
	exe=$(readlink "/proc/$pid/exe") || return 1
	[ "$(basename "$exe")" = dockerd ] && say "$pid"
}

stop() {
	local pid
	if ! pid=$(ours); then
		rm -rf $state
		return 0
	fi
	if [ -n "$(docker ps --quiet)" ]; then
		say "the Docker engine (pid $pid) was started by this script but still runs containers: it goes on."
		say "  To stop it later: scripts/ensure-docker.sh --stop"
		return 0
	fi
	kill "$pid"
	for _ in $(seq 150); do
		if ! ours >/dev/null; then
			rm -rf $state
			say "stopped the Docker engine that this script had started"
			return 0
		fi
		sleep 0.2
	done
	die "the Docker engine (pid $pid) did not stop within 30 s; see $state/dockerd.log"
}

# why says what stands in the way of a machine that this script cannot set up.
why() {
	case $(uname -s) in
	Darwin) die "no Docker engine answers: install Docker Desktop (https://docs.docker.com/desktop/) and start it" ;;
	esac
	if docker version 2>&1 | grep -qi 'permission denied'; then
		die "this user may not use the Docker engine: run 'sudo usermod -aG docker $(id -un)', then log in again (or run this as root)"
	fi
	if command -v dockerd >/dev/null; then
		die "the Docker engine does not answer: start it (sudo systemctl start docker), or run this as root"
	fi
	die "no Docker engine answers: install one and start it (Debian and Ubuntu: sudo apt-get install docker.io; others: https://docs.docker.com/engine/install/), or run this as root on Debian or Ubuntu"
}

install_engine() {
	need dockerd docker.io
	command -v docker >/dev/null || apt_install docker-cli # newer Debians ship it by itself
	need iptables iptables                                 # for the published ports
	# Without systemd nobody may have mounted the cgroups.
	if [ ! -e /sys/fs/cgroup/cgroup.controllers ] && [ ! -d /sys/fs/cgroup/memory ]; then
		need cgroupfs-mount cgroupfs-mount
		cgroupfs-mount
	fi
}

# start_engine starts the engine with systemd where that runs, otherwise by hand:
# in a session of its own, so that it outlives the caller.
start_engine() {
	if [ -d /run/systemd/system ]; then
		say "starting the Docker engine (systemctl start docker)"
		systemctl start docker
		return
	fi
	mkdir -p $state
	say "starting the Docker engine (log: $state/dockerd.log)"
	setsid nohup dockerd >$state/dockerd.log 2>&1 </dev/null &
	say $! >$state/dockerd.pid
}

case ${1:-} in
--stop) stop && exit ;;
--check) answers && exit || exit 1 ;;
'') ;;
*) die "unknown argument $1" ;;
esac

answers && exit
can_install || why
install_engine
answers && exit # installing it started it
start_engine
for _ in $(seq $((wait_s * 5))); do
	if answers; then
		say "the Docker engine answers"
		exit
	fi
	sleep 0.2
done
tail -n 20 $state/dockerd.log >&2 2>/dev/null || true
die "the Docker engine did not answer within $wait_s s of its start"
