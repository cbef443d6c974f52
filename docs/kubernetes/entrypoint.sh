#!/bin/sh
# Starts heddled with the iptables, nft or legacy, in which the host has its rules: a verdict of the one does not count in
# the other, so rules in the wrong one would not let through what the host drops.
rules() {
  for save in "$@"; do "$save" 2>/dev/null; done | grep -c '^-A'
}
if [ "$(rules iptables-legacy-save ip6tables-legacy-save)" -gt "$(rules iptables-nft-save ip6tables-nft-save)" ]; then
  programs=$(mktemp -d)
  for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    ln -s "$(command -v xtables-legacy-multi)" "$programs/$name"
  done
  PATH=$programs:$PATH
fi
exec heddled "$@"
