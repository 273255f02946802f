# What the programs of Postgres itself share. Each prints one line for each step: `step: outcome`.

export EDITOR=true PAGER=cat PSQL_EDITOR=true

# One line of many. What differs between two servers or two moments is left out: the port, times, and where a file is.
one_line() {
    sed -e "s/$PGPORT/PORT/g" -e "s#$work#WORK#g" | tr '\n' '\v' | sed -e 's/\\/\\\\/g' -e 's/\v$//' -e 's/\v/\\n/g'
}

# step NAME COMMAND…: its output and exit status.
step() {
    name=$1
    shift
    if "$@" >"$work/output" 2>&1; then status=""; else status=" [status $?]"; fi
    printf '%s: %s%s\n' "$name" "$(one_line <"$work/output")" "$status"
}

versions() {
    printf '# versions: %s %s\n' "$1" "$("$1" --version | sed 's/^[^0-9]*//; s/ .*//')"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
