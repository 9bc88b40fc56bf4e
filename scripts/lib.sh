# shellcheck shell=bash
# What the scripts share. Source it from the repository's root:
#   . scripts/lib.sh

# The label that every image of an example carries.
# shellcheck disable=SC2034 # used by the scripts that source this one
example_label=org.pancake.example=hello

say() { printf '%s\n' "$*"; }

die() {
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

# clock SECONDS prints a duration as people write it: 7s, 2m05s.
clock() {
	if [ "$1" -lt 60 ]; then
		printf '%ds' "$1"
	else
		printf '%dm%02ds' $(($1 / 60)) $(($1 % 60))
	fi
}

# step NAME COMMAND... runs a command between two lines that say what it is and
# how long it took. A step that fails ends the script with the step's exit code.
# The command may be a function: the first failure inside ends it (so no "||" here,
# behind which bash ignores -e).
step() {
	local name=$1 start=$SECONDS code
	shift
	say "==> $name"
	set +e
	(set -e; "$@")
	code=$?
	set -e
	if [ $code -ne 0 ]; then
		say "==> $name: FAILED after $(clock $((SECONDS - start)))"
		exit $code
	fi
	say "==> $name: done in $(clock $((SECONDS - start)))"
}

# can_install reports whether packages can be installed here: root, on Debian or Ubuntu.
can_install() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }

# apt_install PACKAGE... installs Debian packages. The package lists are refreshed
# only when a first try without that fails, as it does on a fresh image.
apt_install() {
	local log
	log=$(mktemp)
	say "installing $*"
	if ! apt_quietly "$log" "$@" && ! { apt-get -q update >"$log" 2>&1 </dev/null && apt_quietly "$log" "$@"; }; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		die "could not install $*"
	fi
	rm -f "$log"
}

apt_quietly() {
	local log=$1
	shift
	DEBIAN_FRONTEND=noninteractive apt-get -qy -o DPkg::Lock::Timeout=120 \
		install --no-install-recommends "$@" >"$log" 2>&1 </dev/null
}

# need COMMAND PACKAGE makes sure that a command exists.
need() {
	command -v "$1" >/dev/null && return
	can_install || die "$1 is missing: install it first (Debian and Ubuntu: apt-get install $2)"
	apt_install "$2"
}

# build_tool MODULE PACKAGE builds a developer tool, pinned in MODULE's go.mod,
# into bin/tools. Go's cache makes a second call cheap.
build_tool() {
	mkdir -p bin/tools
	go -C "$1" build -o "$PWD/bin/tools/" "$2"
}
