#!/usr/bin/env bash
# Builds calgate_VERSION+debN_amd64.deb: build.sh WHEEL FOLDER. Needs root, and Debian's python3-venv, python3-dev, gcc,
# libkrb5-dev and dpkg-dev; PIP names a pip that knows `--python`.
#
# The environment is built under its final path /opt/calgate, in a mount namespace that nobody else sees, so that no path in
# it has to be rewritten. The same wheel and the same lock file give the same files, except for one: Cython 3.3, which the
# locked gssapi demands, infers types in the order of memory addresses and writes gssapi/raw/oids in one of two ways, which
# do the same. Packages with a compiled part are built by Debian's own Python and not taken from a cache: a cached one
# has the library path of the Python that built it.
set -euo pipefail
wheel=$(realpath "$1") out=$(realpath "$2")
here=$(dirname "$(realpath "$0")") source=$(realpath "$(dirname "$0")/../..")
pip=${PIP:-python3 -m pip}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$source" log -1 --format=%ct)}
export PYTHONHASHSEED=0 LC_ALL=C.UTF-8
# Where the compiler runs, and the name of its temporary folder, must not be in its output.
export CFLAGS="-g0 -ffile-prefix-map=/tmp=." LDFLAGS="-Wl,--build-id=none"
umask 022
work=$(mktemp -d)
made_opt=
[ -d /opt/calgate ] || { mkdir /opt/calgate; made_opt=yes; }
trap 'rm -rf "$work"; [ -z "$made_opt" ] || rmdir /opt/calgate' EXIT
root=$work/root
mkdir -p "$root/opt/calgate"
export wheel source pip root

unshare --mount bash -euo pipefail -c '
  mount --bind "$root/opt/calgate" /opt/calgate
  /usr/bin/python3 -m venv --without-pip /opt/calgate
  install="$pip --python /opt/calgate/bin/python --disable-pip-version-check -q install --no-compile --no-cache-dir"
  $install --require-hashes -r "$source/deploy/requirements-kerberos.txt" -r "$source/deploy/requirements-tracing.txt"
  $install --no-deps "$wheel"
  cd /opt/calgate
  rm -f bin/[Aa]ctivate*
  find bin -type f ! -name calgate -delete                    # commands of libraries, which would only be in the way
  find . \( -name direct_url.json -o -name RECORD \) -delete  # they name files and hashes of this build
  find . -name "*.so" -exec strip --strip-unneeded {} +
  bin/python -m compileall -q -f --invalidation-mode unchecked-hash lib
  for shell in bash zsh fish; do _CALGATE_COMPLETE=${shell}_source bin/calgate >"$root/$shell"; done'

put() { install -D -m "${3:-0644}" "$1" "$root/$2"; }
put "$root/bash" usr/share/bash-completion/completions/calgate
put "$root/zsh" usr/share/zsh/vendor-completions/_calgate
put "$root/fish" usr/share/fish/vendor_completions.d/calgate.fish
rm "$root"/{bash,zsh,fish}
mkdir -p "$root/usr/bin" && ln -s /opt/calgate/bin/calgate "$root/usr/bin/calgate"

for page in "$root"/opt/calgate/share/man/man?/*; do
  put "$page" "usr/share/man/$(basename "$(dirname "$page")")/$(basename "$page")"
done
rm -r "$root/opt/calgate/share/man"
find "$root/usr/share/man" -type f -exec gzip -9n {} +
put "$source/deploy/calgate.service" lib/systemd/system/calgate.service
put "$here/sysusers.conf" usr/lib/sysusers.d/calgate.conf
put "$here/tmpfiles.conf" usr/lib/tmpfiles.d/calgate.conf
put "$here/copyright" usr/share/doc/calgate/copyright
put "$here/lintian-overrides" usr/share/lintian/overrides/calgate
ln -s /opt/calgate/share/calgate "$root/usr/share/doc/calgate/calgate"

version=$(basename "$wheel" | cut -d- -f2)
debian=$(. /etc/os-release && echo "$VERSION_ID")
full=$version+deb$debian
{
  printf 'calgate (%s) unstable; urgency=medium\n\n  * /usr/share/doc/calgate/calgate/CHANGELOG.md says what has changed.\n\n' "$full"
  printf ' -- calgate maintainers <calgate@corp.example>  %s\n' "$(date -uR -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$root/usr/share/doc/calgate/changelog.gz"
for script in postinst prerm postrm; do put "$here/$script" "DEBIAN/$script" 0755; done
size=$(find "$root" -path "$root/DEBIAN" -prune -o -type f -printf '%s\n' | awk '{ kb += int(($1 + 1023) / 1024) } END { print kb }')
sed "s/@VERSION@/$full/; s/@SIZE@/$size/" "$here/control.in" >"$root/DEBIAN/control"
chmod -R u=rwX,go=rX "$root" && chmod 0755 "$root"/DEBIAN/p*
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
dpkg-deb -Zxz --root-owner-group --build "$root" "$out/calgate_${full}_amd64.deb"
