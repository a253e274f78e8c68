#!/bin/sh
# Makes a MultiCS or OSCam host ready for twinline: a user that may do nothing but start the helper, its state
# directory, and access to the accounts file. Run it as root on the host, as often as you like:
#
#   twinline host authorize mc-eu1 | ssh root@mc1 'sh prepare-host.sh multics /var/etc/accounts.cfg'
#   twinline host authorize os-eu1 | ssh root@os1 'sh prepare-host.sh oscam /etc/oscam/oscam.user /var/lib/oscam-accounts'
#
# Standard input is what goes into authorized_keys. For OSCam the third word is a folder that the file moves to, with a
# link in its old place; without it the file stays, and a file that OSCam's web pages have rewritten needs a person.
# docs/hosts.md says why each step is there. Variables, with their defaults:
#   TWINLINE_USER=twinline  TWINLINE_HOME=/home/$TWINLINE_USER  TWINLINE_STATE=/var/lib/twinline
#   DAEMON_GROUP=root       a group that the daemon is in; needed if it does not run as root
set -eu

user=${TWINLINE_USER:-twinline}
home=${TWINLINE_HOME:-/home/$user}
state=${TWINLINE_STATE:-/var/lib/twinline}
group=${DAEMON_GROUP:-root}
mode=0640

fail() {
    echo "prepare-host: $*" >&2
    exit 1
}

case "$#:${1:-}" in
2:multics | 2:oscam | 3:oscam) ;;
*) fail "write: prepare-host.sh multics FILE, or: prepare-host.sh oscam FILE [FOLDER]" ;;
esac
protocol=$1 file=$2 folder=${3:-}
[ "$protocol" = multics ] || mode=0660
[ "$(id -u)" = 0 ] || fail "this has to be root"
[ "$user" != root ] || fail "TWINLINE_USER has to be a user of its own"
[ -f "$file" ] || fail "there is no accounts file $file"
[ -n "$folder" ] || [ ! -L "$file" ] || fail "$file is a link; name the file itself"
case "${DAEMON_GROUP:+set}:$(stat -L -c %U "$file")" in
set:* | :root) ;;
":$user") group=$(stat -L -c %G "$file") ;;
*) fail "$file is not root's: set DAEMON_GROUP to a group of the daemon, or it can't read the file afterwards" ;;
esac
command -v python3 >/dev/null || fail "python3 is missing: install it, 3.7 or newer"

lines=$(cat)
case "$lines" in
restrict,command=*) ;;
*) fail "standard input has to be what \`twinline host authorize HOST\` prints" ;;
esac

# The user. "*" is a password that nothing matches; an account that is locked would be refused by sshd.
id "$user" >/dev/null 2>&1 ||
    useradd --system --user-group --shell /bin/sh --home-dir "$home" --no-create-home "$user"
usermod --password '*' "$user"
home=$(getent passwd "$user" | cut -d: -f6)

# Its key stands in files of root's, so that whoever has the key can't change what it allows.
install -d -o root -g root -m 0755 "$home" "$home/.ssh"
keys="$home/.ssh/authorized_keys"
(umask 077 && printf '%s\n' "$lines" >"$keys.new")
chown "root:$user" "$keys.new"
chmod 0640 "$keys.new"
mv -f "$keys.new" "$keys"

install -d -o "$user" -g "$user" -m 0700 "$state"

if [ -n "$folder" ]; then
    # A layout is renewed by a rename, which needs a folder that twinline may write to: not that of the settings.
    # New files get the folder's group, so that the daemon can read them.
    install -d -o "$user" -g "$group" -m 2750 "$folder"
    target="$folder/$(basename "$file")"
    if [ -L "$file" ]; then
        [ "$(readlink "$file")" = "$target" ] || fail "$file is a link to somewhere else"
    else
        (umask 077 && cp "$file" "$target.new")
        chown "$user:$group" "$target.new"
        chmod "$mode" "$target.new"
        mv -f "$target.new" "$target"
        ln -sf "$target" "$file.twinline"
        mv -fT "$file.twinline" "$file"
    fi
    file=$target
else
    # Never by rename: MultiCS watches the file itself. The owner comes last, so that the daemon can read at any moment.
    chgrp "$group" "$file"
    chmod "$mode" "$file"
    chown "$user" "$file"
fi

as_user() {
    su -s /bin/sh -c "$1" "$user"
}
as_user "test -r '$file' && test -w '$file'" || fail "$user can't get at $file: each folder above it needs o+x"
as_user "python3 -IBc 'import sys; sys.exit(sys.version_info < (3, 7))'" || fail "$user can't run python3, 3.7 or newer"

echo "ready: ssh user $user, accounts_file $file, state_dir $state"
if [ "$protocol" = oscam ] && [ -z "$folder" ]; then
    echo "note: when OSCam's web pages have rewritten $file, twinline can't lay it out again here; see docs/hosts.md"
fi
