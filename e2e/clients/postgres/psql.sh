# psql with each line of psql.txt, in one session; a line `# word` there names the kind of the steps that follow.
. ./postgres.sh
versions psql

# A line of its own before each command says whose output follows.
awk '
    /^#/ { next }
    { printf "\\echo @%d\n%s\n", NR, $0 }
' psql.txt | sed "s#WORK#$work#g" >"$work/input"
psql -X -q -v VERBOSITY=sqlstate -v HISTFILE=/dev/null <"$work/input" >"$work/all" 2>&1

# The gate says when a condition compares a mask, which is not what is compared here.
sed -i '/^NOTICE:  01000$/d' "$work/all"
awk '
    function reported() { if (at) { gsub(/: /, ":", name[at]); print name[at] ": " text } }
    NR == FNR && /^#/ { kind = substr($0, 3); next }
    NR == FNR { name[FNR] = kind " " $0; next }
    /^@[0-9]+$/ { reported(); at = substr($0, 2); text = ""; next }
    { text = text (text == "" ? "" : "\\n") $0 }
    END { reported() }
' psql.txt "$work/all" | sed -e "s/$PGPORT/PORT/g" -e 's/[A-Z][a-z][a-z] [A-Z][a-z][a-z] [^\\(]*(every/(every/g' -e "s#$work#WORK#g" \
    -e 's/\\nLOCATION: [^\\]*//' -e "s/'[0-9][0-9][0-9][0-9][0-9]*'/'OID'/g" -e 's/with PID [0-9]*/with PID N/' -e 's/pg_temp_[0-9]*/pg_temp/g'
