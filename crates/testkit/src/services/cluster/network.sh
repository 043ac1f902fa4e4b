# $1: up or down. Three namespaces on one bridge, with addresses private to this machine.
if [ "$1" = up ]; then
  ip link add csbr type bridge
  ip addr add 10.77.0.1/24 dev csbr
  ip link set csbr up
fi
for n in 1 2 3; do
  if [ "$1" = up ]; then
    ip netns add "cs$n"
    ip link add "csv$n" type veth peer name eth0 netns "cs$n"
    ip link set "csv$n" master csbr up
    ip -n "cs$n" addr add "10.77.0.1$n/24" dev eth0
    ip -n "cs$n" link set eth0 up
    ip -n "cs$n" link set lo up
  else
    ip netns del "cs$n"
  fi
done
[ "$1" = up ] || ip link del csbr
