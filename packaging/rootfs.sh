#!/usr/bin/env bash
# Lays out the root file system of an image: programs, the shared libraries they load, CA
# certificates where there is a network, one user, and nothing else that runs.
#   packaging/rootfs.sh IMAGE BUILT DIR
# IMAGE is signing-proxy, breakglass-signer or signing-trail; BUILT is what packaging/build.sh made; DIR must not exist yet.
# Runs as root, since files get owners. SOURCE_DATE_EPOCH: their date (default 0).
set -euo pipefail

fail() { printf 'packaging/rootfs.sh: %s\n' "$*" >&2; exit 1; }
[ $# = 3 ] || { echo "usage: packaging/rootfs.sh IMAGE BUILT DIR" >&2; exit 2; }
image="$1" built="$2" root="$3"
repository="$(cd "$(dirname "$0")/.." && pwd)"
# Different users: the emergency signer believes the proxy nothing, and refuses its own user.
case "$image" in
  signing-proxy) programs=(signing-proxy signctl pkcs11-worker) uid=65532 network=yes ;;
  breakglass-signer) programs=(breakglass-signer) uid=65533 network=no ;;
  signing-trail) programs=(signing-trail) uid=65531 network=yes ;;
  *) fail "no image $image; there are: signing-proxy, breakglass-signer, signing-trail" ;;
esac
authorities=/etc/ssl/certs/ca-certificates.crt
[ "$(id -u)" = 0 ] || fail "run it as root: directories are given to the user $uid"
[ ! -e "$root" ] || fail "$root exists; name a directory that does not"
[ "$network" = no ] || [ -s "$authorities" ] || fail "$authorities is missing; install ca-certificates"
umask 022

# What `ldd` finds, with the loader itself: the whole closure of NEEDED.
libraries_of() {
  local listed
  listed="$(env -u LD_LIBRARY_PATH -u LD_PRELOAD ldd "$1")" || fail "ldd $1: $listed"
  case "$listed" in *"not found"*) fail "a library of $1 is missing: $listed" ;; esac
  awk '$2 == "=>" && $3 ~ /^\// { print $3; next } $1 ~ /^\// { print $1 }' <<<"$listed"
}

# Where Debian is: which package, of which version, under which licence. Scanners of
# images read status.d.
note_package() {
  local path package="" name other="/usr$1"
  command -v dpkg-query >/dev/null || return 0
  # /lib is /usr/lib, and a package may have been packed with either.
  case "$1" in /usr/*) other="${1#/usr}" ;; esac
  for path in "$1" "$other"; do
    # PACKAGE:ARCHITECTURE: PATH, after lines about diversions if there are any.
    package="$(dpkg-query -S "$path" 2>/dev/null |
      sed -n '/^diversion by /d; s/\(, \|: \).*//p' | sed -n 1p)" || package=""
    [ -z "$package" ] || break
  done
  [ -n "$package" ] || fail "no Debian package has $1 or $other: its version and licence are unknown"
  name="${package%%:*}"
  install -D -m 0644 "/usr/share/doc/$name/copyright" "$root/usr/share/doc/$name/copyright"
  mkdir -p "$root/var/lib/dpkg/status.d"
  dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$name"
}

for program in "${programs[@]}"; do
  install -D -m 0755 "$built/$program" "$root/usr/bin/$program"
  install -D -m 0644 "$built/$program.cdx.json" "$root/usr/share/sbom/$program.cdx.json"
  libraries="$(libraries_of "$built/$program")"
  for library in $libraries; do
    case "$library" in */ld-linux*) mode=0755 ;; *) mode=0644 ;; esac
    install -D -m "$mode" "$library" "$root$library"
    note_package "$library"
  done
done

install -D -m 0644 "$repository/LICENSE" "$root/usr/share/doc/$image/copyright"
if [ "$network" = yes ]; then
  install -D -m 0644 "$authorities" "$root$authorities"
  note_package /usr/sbin/update-ca-certificates
fi
[ ! -e /etc/os-release ] || install -D -m 0644 /etc/os-release "$root/etc/os-release"

printf '%s:x:%s:%s::/nonexistent:/nonexistent\n' "$image" "$uid" "$uid" >"$root/etc/passwd"
printf '%s:x:%s:\n' "$image" "$uid" >"$root/etc/group"
# /etc/hosts first, as engines and orchestrators expect when they write it.
printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"

# The configuration is root's: the program reads it, and cannot rewrite it.
install -d -m 0755 "$root/run" "$root/var/lib" "$root/etc/$image"
install -d -m 0750 -o "$uid" -g "$uid" "$root/run/$image"
install -d -m 0700 -o "$uid" -g "$uid" "$root/var/lib/$image"
find "$root" -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH:-0}" {} +
