#!/usr/bin/env bash
# From a clone to a service that answers through Traefik, on one machine.
#
#   scripts/demo.sh           build, start Pancake, deploy the example service
#   scripts/demo.sh --down    stop it and remove all that it made
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

host=hello.localhost
port=8080
wait_s=60 # how long the first answer may take once the release has succeeded

down() {
	if ! scripts/ensure-docker.sh --check; then
		say "no Docker engine answers: nothing of the demo can be running in it"
	fi
	if [ -x bin/pancake ]; then
		bin/pancake dev down --purge
	elif [ -d .pancake ]; then
		die "bin/pancake is missing but .pancake is there: run 'make build', then 'make demo-down' again"
	fi
	if scripts/ensure-docker.sh --check; then scripts/images.sh --remove; fi
	rm -rf bin/images
	scripts/ensure-docker.sh --stop
	say "the demo is gone; bin/ is kept (make clean removes it)"
}

# get asks the service through Traefik. Not every resolver knows that names under
# localhost mean this machine, so that is said to curl.
get() { curl --silent --fail --max-time 5 --noproxy '*' --resolve "$host:$port:127.0.0.1" "http://$host:$port/"; }

await() {
	local until=$((SECONDS + wait_s))
	until get; do
		[ $SECONDS -lt $until ] ||
			die "http://$host:$port/ did not answer within $wait_s s; 'bin/pancake status' and .pancake/dev.log say more"
		sleep 0.2
	done
}

case ${1:-} in
--down)
	down
	exit
	;;
'') ;;
*) die "unknown argument $1" ;;
esac

need curl curl
scripts/ensure-docker.sh
scripts/build.sh
scripts/images.sh
if bin/pancake agents >/dev/null 2>&1; then
	say "Pancake runs already"
else
	bin/pancake dev --detach
fi
bin/pancake release examples/hello -e dev -t 1
say ""
say "$ curl http://$host:$port/"
await
cat <<'EOT'

It runs. What to try next:

  curl http://hello.localhost:8080/                     ask it again
  bin/pancake status                                    what runs, where, how it is
  bin/pancake logs hello -e dev -f                      its log, as it is written
  bin/pancake scale hello -e dev 3                      three instances instead of two
  bin/pancake release examples/hello -e dev -t 2        version 2, without a failed request
  docker kill $(docker ps -q -f label=pancake.task)     kill them: they are replaced
  make demo-down                                        remove all of it
EOT
