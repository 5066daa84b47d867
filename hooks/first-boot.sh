#!/bin/sh
# The first boot of a container: Debian, as its own root.
#
# LXC calls it before the first process:  hook <name> lxc start
# It then does what must be there before anybody can sign in and before the container asks for an address, and leaves the rest to a
# service that runs when the network is up:  hook run
#
# `arguments` beside it is one JSON object of texts, numbers, booleans and lists of them. What it says is data: no part of it is ever run.
# `report` beside it gets lines that Hatchery reads: `progress <0-100> <what>`, `done`, `failed <why>`.
# Run again, in part or as a whole, it comes to the same end.
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
DEBIAN_FRONTEND=noninteractive
export PATH LC_ALL DEBIAN_FRONTEND
umask 022

hook=$0
arguments=${hook%/*}/arguments
report=${hook%/*}/report
log=/var/log/hatchery-first-boot.log
state=/var/lib/hatchery-first-boot.state
unit=hatchery-first-boot.service
doing='reading its arguments'

tell() { printf '%s\n' "$*" >> "$report"; }

# stage PERCENT WHAT COMMAND...
stage() {
  doing=$2
  tell "progress $1 $2"
  shift 2
  "$@" >> "$log" 2>&1
}

ended() {
  code=$?
  [ "$code" -eq 0 ] && return
  why=$(tail -n 3 "$log" | tr -c '[:print:]' ' ' | cut -c 1-250)
  tell "failed $doing (exit code $code): $why"
}

# One "name<TAB>value" line for each value; a list has several. perl-base is part of every Debian, a JSON reader is not.
read_arguments() {
  perl -e '
    use strict;
    local $/;
    my $json = <STDIN>;
    sub text {
      my $raw = shift;
      die "an escaped or control character in a text\n" if $raw =~ /[\x00-\x1f\x7f]/ or $raw =~ /\\[^"\\\/]/;
      $raw =~ s/\\(.)/$1/g;
      return $raw;
    }
    sub value {
      my $name = shift;
      if ($json =~ /\G\s*"((?:[^"\\]|\\.)*)"/gc) { print "$name\t", text($1), "\n" }
      elsif ($json =~ /\G\s*(-?[0-9]+|true|false)/gc) { print "$name\t$1\n" }
      elsif ($json =~ /\G\s*\[\s*\]/gc) { }
      elsif ($json =~ /\G\s*\[/gc) {
        do { value($name) } while $json =~ /\G\s*,/gc;
        $json =~ /\G\s*\]/gc or die "a list that does not end\n";
      }
      else { die "a value that is no text, number, boolean or list\n" }
    }
    $json =~ /\G\s*\{/gc or die "no JSON object\n";
    do {
      $json =~ /\G\s*"([A-Za-z]+)"\s*:/gc or die "no name of a value\n";
      value($1);
    } while $json =~ /\G\s*,/gc;
    $json =~ /\G\s*\}\s*\z/gc or die "an object that does not end\n";
  ' < "$arguments"
}

# Only names that stand in this script are asked for.
get() { printf '%s\n' "$values" | sed -n "s/^$1	//p"; }

# Which card these ids and this state are of: a clone of this container begins anew.
is() { [ -e "$state" ] && [ "$(cat "$state")" = "$1 $(get mac)" ]; }
becomes() { printf '%s %s\n' "$1" "$(get mac)" > "$state"; }

# A clone has the ids of its template, and two machines with one id get one address.
forget_template() {
  : > /etc/machine-id
  rm -f /var/lib/dbus/machine-id /var/lib/dhcp/*.leases /var/lib/systemd/random-seed
}

# The DHCP server names what it gives an address to by this id (RFC 4361), which the machine keeps as long as its network card.
use_duid() {
  mac=$(get mac)
  id="ff:${mac#*:*:}:00:03:00:01:$mac"
  mkdir -p /etc/dhcp /etc/systemd/networkd.conf.d
  touch /etc/dhcp/dhclient.conf
  sed '/^# hatchery$/,/^# end of hatchery$/d' /etc/dhcp/dhclient.conf > /etc/dhcp/dhclient.conf.hatchery
  printf '# hatchery\nsend dhcp-client-identifier %s;\n# end of hatchery\n' "$id" >> /etc/dhcp/dhclient.conf.hatchery
  mv /etc/dhcp/dhclient.conf.hatchery /etc/dhcp/dhclient.conf
  printf '[DHCPv4]\nClientIdentifier=duid\nDUIDType=link-layer\n' > /etc/systemd/networkd.conf.d/hatchery.conf
}

restrict_sign_in() {
  owner=$(get owner)
  [ -n "$owner" ] || return 0
  {
    printf '%s\n' '+:root:ALL' '+:ALL:cron atd' "+:$owner:ALL"
    for admin in $(get admins); do printf '%s\n' "+:$admin:ALL" "+:($admin):ALL"; done
    printf '%s\n' '-:ALL:ALL'
  } > /etc/security/access.hatchery.conf
  printf '%s\n' 'Name: Only the owner and administrators sign in (Hatchery)' 'Default: yes' 'Priority: 0' \
    'Account-Type: Additional' 'Account:' \
    '	required pam_access.so nodefgroup accessfile=/etc/security/access.hatchery.conf' > /usr/share/pam-configs/hatchery
  pam-auth-update --package --enable hatchery
}

install_service() {
  mkdir -p /etc/systemd/system/multi-user.target.wants
  printf '%s\n' '[Unit]' 'Description=First boot of this container (Hatchery)' \
    'Wants=network-online.target' 'After=network-online.target' \
    '[Service]' 'Type=oneshot' "ExecStart=$hook run" 'TimeoutStartSec=2h' \
    '[Install]' 'WantedBy=multi-user.target' > "/etc/systemd/system/$unit"
  ln -sf "/etc/systemd/system/$unit" "/etc/systemd/system/multi-user.target.wants/$unit"
}

# Root may sign in; everybody else waits until the machine is what was asked for.
close_door() { echo 'This machine is being prepared.' > /etc/nologin; }

apt() { apt-get -y -o Acquire::Retries=5 -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold "$@"; }

join_domain() {
  realm=$(get realm)
  realm list --name-only | grep -Fqix -- "$realm" ||
    get joinPassword | realm join --unattended --membership-software=adcli "--user=$(get joinUser)" -- "$realm"
  # Its users have short names, as their homes and the list of who may sign in do.
  sed -i 's/^use_fully_qualified_names *=.*/use_fully_qualified_names = False/; s/^fallback_homedir *=.*/fallback_homedir = \/home\/%u/' \
    /etc/sssd/sssd.conf
  systemctl restart sssd
}

before_first_process() {
  if is ready; then tell done; return; fi
  is begun || stage 1 'forgetting the ids of its template' forget_template
  becomes begun
  stage 1 'closing the door' close_door
  stage 2 'the id for the DHCP server' use_duid
  stage 3 'who may sign in' restrict_sign_in
  stage 4 'the service for the rest' install_service
}

with_network() {
  packages=$(get packages)
  [ -z "$(get realm)" ] || packages="$packages realmd sssd sssd-tools libnss-sss libpam-sss adcli"
  stage 5 'the list of packages' apt update
  if [ "$(get update)" = true ]; then stage 10 'updates' apt upgrade; fi
  # shellcheck disable=SC2086 -- names of packages have no blanks
  if [ -n "$packages" ]; then stage 40 'packages' apt install -- $packages; fi
  if [ -n "$(get realm)" ]; then stage 85 'joining the domain' join_domain; fi
  stage 98 'opening the door' rm -f /etc/nologin
  # The password of the join account has done its work.
  umount "$arguments" 2>> "$log" || :
  rm -f "/etc/systemd/system/multi-user.target.wants/$unit" "/etc/systemd/system/$unit"
  becomes ready
  tell done
}

trap ended EXIT
touch "$log"
chmod 600 "$log"
values=$(read_arguments 2>> "$log")
if [ "${1:-}" = run ]; then with_network; else before_first_process; fi
