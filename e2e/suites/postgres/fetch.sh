#!/bin/sh
# fetch.sh FOLDER MAJOR: puts PostgreSQL's own regression suite into FOLDER: `regress/` from Debian's source package, and
# `lib/regress.so`, the C functions that its tests call. The system's own lists and sources stay as they are.
# Ends with 3 where this system has no such package.
set -eu
folder=$1 major=$2
[ -e "$folder/regress/parallel_schedule" ] && [ -e "$folder/lib/regress.so" ] && exit 0
for tool in apt-get dpkg-deb cc flock; do command -v "$tool" >/dev/null || exit 3; done
mkdir -p "$folder"
exec 9>"$folder/lock"
flock 9
[ -e "$folder/regress/parallel_schedule" ] && [ -e "$folder/lib/regress.so" ] && exit 0
work=$folder/work
rm -rf "$work"
mkdir -p "$work/sources" "$work/lists/partial" "$work/cache/archives/partial"
cd "$work"
# The system's sources, with source packages.
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [ -e "$file" ] || continue
    case $file in
    *.sources) sed 's/^Types:.*/Types: deb deb-src/' "$file" ;;
    *) sed -n 's/^deb .*/&/p; s/^deb \(.*\)/deb-src \1/p' "$file" ;;
    esac >"sources/$(basename "$file")"
done
apt() {
    program=$1; shift
    "$program" -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/sources" \
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root "$@"
}
apt apt-get update
[ -n "$(apt apt-cache madison "postgresql-server-dev-$major")" ] || exit 3
# Not every mirror keeps every version that it lists; any minor version has the same tests but for a few.
for version in $(apt apt-cache madison "postgresql-$major" | awk '/Sources/ { print $3 }'); do
    if apt apt-get source --download-only "postgresql-$major=$version" >log 2>&1; then break; fi
done
ls postgresql-"$major"_*.orig.tar.* >/dev/null || { cat log >&2; exit 1; }
apt apt-get download "postgresql-server-dev-$major"
mkdir source headers
tar -xf postgresql-"$major"_*.orig.tar.* -C source --strip-components=1 --wildcards '*/src/test/regress'
dpkg-deb -x postgresql-server-dev-"$major"_*.deb headers
mkdir -p "$folder/lib"
cc -O1 -fPIC -shared -I "headers/usr/include/postgresql/$major/server" -DDLSUFFIX='".so"' \
    -o "$folder/lib/regress.so" source/src/test/regress/regress.c
rm -rf "$folder/regress"
mv source/src/test/regress "$folder/regress"
rm -rf "$work"
