# $1: the folder. Debian 13 has RabbitMQ 4. Packages come from this machine's mirror.
command -v debootstrap >/dev/null || apt-get install -qq -y --no-install-recommends debootstrap >/dev/null
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -E '^(URIs:|deb )' | grep -o 'https\?://[^ ]*' | head -n 1)
rm -rf "$1.unfinished"
debootstrap --variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg trixie "$1.unfinished" "$mirror" >/dev/null
# Packages must not start services.
printf '#!/bin/sh\nexit 101\n' > "$1.unfinished/usr/sbin/policy-rc.d"
chmod 755 "$1.unfinished/usr/sbin/policy-rc.d"
chroot "$1.unfinished" sh -euc 'export DEBIAN_FRONTEND=noninteractive; apt-get -qq update
  apt-get install -qq -y --no-install-recommends rabbitmq-server >/dev/null'
mv "$1.unfinished" "$1"
