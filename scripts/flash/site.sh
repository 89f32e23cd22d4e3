# shellcheck shell=bash
# shellcheck disable=SC2034  # flash.sh and its other parts read what is set here
# What flash.sh is told about a site: SITE.toml, `--set KEY=VALUE`, a row of a CSV. Sourced by flash.sh, not run.
#
# The format is the part of TOML that a site needs: sections, and one `key = value` a line, where a value is a text in
# quotes or a list of them. Whatever else stands there is an error with its line; all errors of a file come at once.

# Values by `key` or `section.key`; the elements of a list are joined by line feeds.
declare -A site=()
site_errors=()

site_example() {
    cat <<'EXAMPLE'
# A site, for scripts/flash.sh. Paths are relative to this file. Everything but `node` and `config` may be left out.
node = "pump-07"                      # the node's id and the machine's host name
config = "headwater.toml"             # becomes /etc/headwater/headwater.toml
user = "tech"                         # who logs in over SSH; may use sudo
ssh_keys = ["ssh-ed25519 AAAA... tech@desk"]   # or: ssh_key_files = ["id_ed25519.pub"]
# password_hash = "$6$..."            # for the console (`openssl passwd -6`); without it only keys open the door
timezone = "Europe/London"
# time_servers = ["192.0.2.1"]        # who tells the time where the Internet does not; names or addresses
country = "GB"                        # whose rules the Wi-Fi keeps
# root_size = "4GiB"                  # the root partition; the board's file says what it is otherwise
# data_size = "2GiB"                  # the data partition; "rest" takes what the device has (with --device)

[wifi]
ssid = "Pump station"
psk_file = "wifi.psk"                 # or psk_env = "WIFI_PSK"; never the passphrase itself

[network]                             # a fixed address; without this section DHCP
interface = "eth0"                    # with [wifi] and no interface: wlan0
address = "192.0.2.7/24"
gateway = "192.0.2.1"
dns = ["192.0.2.1"]

[credentials]                         # `{ credential = "site-key" }` in the config; readable by root alone
site-key = "secrets/site-key.pem"

[files]                               # other files beside the config, such as certificates
"ca.pem" = "ca.pem"
EXAMPLE
}

# site_key KEY: whether there is such a key; `list` or `text` says how its value looks.
site_key() {
    case $1 in
        ssh_keys | ssh_key_files | time_servers | network.dns) echo list ;;
        node | config | user | password_hash | timezone | country | root_size | data_size) echo text ;;
        wifi.ssid | wifi.psk_file | wifi.psk_env) echo text ;;
        network.interface | network.address | network.gateway) echo text ;;
        credentials.?* | files.?*) echo text ;;
        *) return 1 ;;
    esac
}

# site_path KEY: whether its value is the path of a file here.
site_path() {
    case $1 in
        config | ssh_key_files | wifi.psk_file | credentials.* | files.*) return 0 ;;
        *) return 1 ;;
    esac
}

site_error() { site_errors+=("$1"); }

# texts REST: takes `"a", "b"` apart into $taken, joined by line feeds; $left is what remains unread.
texts() {
    local rest=$1 basic='^"(([^"\]|\\.)*)"(.*)$' literal="^'([^']*)'(.*)\$" text
    taken='' count=0
    while :; do
        if [[ $rest =~ $basic ]]; then
            text=${BASH_REMATCH[1]} rest=${BASH_REMATCH[3]}
            text=${text//\\\"/\"}
            text=${text//\\\\/\\}
        elif [[ $rest =~ $literal ]]; then
            text=${BASH_REMATCH[1]} rest=${BASH_REMATCH[2]}
        else
            break
        fi
        taken+=${taken:+$'\n'}$text
        count=$((count + 1))
        rest=${rest#"${rest%%[! ]*}"}
        [ "${rest:0:1}" = , ] || break
        rest=${rest#,}
        rest=${rest#"${rest%%[! ]*}"}
    done
    left=$rest
}

# site_set KEY KIND VALUE DIR WHERE: takes a value; paths are made whole from DIR.
site_set() {
    local key=$1 kind=$2 value=$3 dir=$4 where=$5 wanted line out=
    if ! wanted=$(site_key "$key"); then
        site_error "$where: \`$key\` is no key of a site"
        return
    fi
    if [ "$wanted" != "$kind" ]; then
        site_error "$where: \`$key\` takes a $wanted"
        return
    fi
    if site_path "$key"; then
        while IFS= read -r line; do
            case $line in
                /*) ;;
                \~/*) line=$HOME/${line#\~/} ;;
                *) line=$dir/$line ;;
            esac
            out+=${out:+$'\n'}$line
        done <<<"$value"
        value=$out
    fi
    site[$key]=$value
}

# read_site FILE: takes all of a site's file.
read_site() {
    local file=$1 dir line number=0 section='' key rest kind seen=' '
    local head='^\[([a-z]+)\] *(#.*)?$' pair='^("([A-Za-z0-9._-]+)"|([A-Za-z0-9_-]+)) *= *(.*)$'
    [ -f "$file" ] || fail "there is no site file $file"
    dir=$(cd "$(dirname "$file")" && pwd)
    while IFS= read -r line || [ -n "$line" ]; do
        number=$((number + 1))
        line=${line%$'\r'}
        line=${line#"${line%%[! ]*}"}
        if [[ -z $line || $line = '#'* ]]; then
            continue
        elif [[ $line =~ $head ]]; then
            section=${BASH_REMATCH[1]}.
            case $section in
                wifi. | network. | credentials. | files.) ;;
                *) site_error "$file:$number: [${section%.}] is no section of a site" ;;
            esac
            continue
        elif ! [[ $line =~ $pair ]]; then
            site_error "$file:$number: neither \`key = \"value\"\` nor a [section]"
            continue
        fi
        key=$section${BASH_REMATCH[2]}${BASH_REMATCH[3]}
        rest=${BASH_REMATCH[4]}
        kind=text
        if [ "${rest:0:1}" = '[' ]; then
            kind=list
            rest=${rest#\[}
            rest=${rest#"${rest%%[! ]*}"}
        fi
        texts "$rest"
        if [ "$kind" = list ]; then
            [ "${left:0:1}" = ']' ] || { site_error "$file:$number: the list of \`$key\` does not end on its line"; continue; }
            left=${left#\]}
        elif [ "$count" -ne 1 ]; then
            site_error "$file:$number: the value of \`$key\` is to stand in quotes"
            continue
        fi
        if ! [[ $left =~ ^\ *(#.*)?$ ]]; then
            site_error "$file:$number: \`$left\` after the value of \`$key\`"
            continue
        fi
        case $seen in
            *" $key "*) site_error "$file:$number: \`$key\` stands there twice"; continue ;;
        esac
        seen+="$key "
        site_set "$key" "$kind" "$taken" "$dir" "$file:$number"
    done <"$file"
}

# set_site KEY=VALUE DIR: takes one value, the elements of a list divided by semicolons.
set_site() {
    local key=${1%%=*} value=${1#*=} kind
    [[ $1 = *=* ]] || fail "--set takes KEY=VALUE, not \`$1\`"
    kind=$(site_key "$key") || kind=text
    [ "$kind" = text ] || value=${value//;/$'\n'}
    # Nothing takes away what the file says.
    if [ -z "$value" ] && site_key "$key" >/dev/null; then
        unset "site[$key]"
        return
    fi
    site_set "$key" "$kind" "$value" "$2" "--set $key"
}

# matches KEY PATTERN WHAT: a value that is there has to look like this.
matches() {
    local value=${site[$1]-}
    [ -z "$value" ] || [[ $value =~ $2 ]] || site_error "\`$1\`: $3, not \`$value\`"
}

# check_site: everything that is wrong with what was taken, at once.
check_site() {
    local key path line name='^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$' four='[0-9]{1,3}(\.[0-9]{1,3}){3}'
    [ -n "${site[node]-}" ] || site_error "\`node\` is missing: the node's id"
    [ -n "${site[config]-}" ] || site_error "\`config\` is missing: the node's config"
    matches node "$name" "small letters, digits and hyphens, as a host name has them"
    matches user '^[a-z_][a-z0-9_-]{0,30}$' "a user's name"
    case ${site[user]-} in root | headwater) site_error "\`user\`: \`${site[user]}\` is taken" ;; esac
    matches timezone '^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$' "a name like Europe/London"
    matches country '^[A-Z][A-Z]$' "two capital letters"
    matches password_hash '^\$[a-z0-9]+\$[^:]+$' "what \`openssl passwd -6\` gives"
    matches network.interface '^[A-Za-z0-9._-]{1,15}$' "a name like eth0"
    matches network.address "^($four/[0-9]{1,2}|[0-9a-fA-F:]+/[0-9]{1,3})\$" "an address with its prefix, as in 192.0.2.7/24"
    matches network.gateway "^($four|[0-9a-fA-F:]+)\$" "an address"
    matches root_size '^[0-9]+(MiB|GiB)$' "a size like 4GiB"
    matches data_size '^(rest|[0-9]+(MiB|GiB))$' "a size like 2GiB, or rest"
    for key in "${!site[@]}"; do
        case $key in
            network.?*) [ -n "${site[network.address]-}" ] || site_error "\`$key\` without \`network.address\`" ;;
            credentials.* | files.*)
                [[ ${key#*.} =~ ^[A-Za-z0-9_][A-Za-z0-9._-]*$ ]] || site_error "\`$key\`: not the name of a file" ;;
        esac
        site_path "$key" || continue
        while IFS= read -r path; do
            [ -f "$path" ] || site_error "\`$key\`: there is no file $path"
        done <<<"${site[$key]}"
    done
    case ${site[files.headwater.toml]+x}${site[files.site-id]+x} in
        ?*) site_error "[files]: headwater.toml and site-id are written from \`config\` and \`node\`" ;;
    esac
    while IFS= read -r line; do
        [ -z "$line" ] || [[ $line =~ ^($four|[0-9a-fA-F:]+)$ ]] || site_error "\`network.dns\`: \`$line\` is no address"
    done <<<"${site[network.dns]-}"
    while IFS= read -r line; do
        [ -z "$line" ] || [[ $line =~ ^[A-Za-z0-9:][A-Za-z0-9:.-]*$ ]] || site_error "\`time_servers\`: \`$line\` is neither name nor address"
    done <<<"${site[time_servers]-}"
    check_keys
    check_wifi
    if [ "${#site_errors[@]}" -gt 0 ]; then
        printf 'error: %s\n' "${site_errors[@]}" >&2
        exit 2
    fi
}

# The SSH keys of both kinds, one a line, in $ssh_keys.
check_keys() {
    local path line
    ssh_keys=${site[ssh_keys]-}
    while IFS= read -r path; do
        [ ! -f "$path" ] || ssh_keys+=${ssh_keys:+$'\n'}$(<"$path")
    done <<<"${site[ssh_key_files]-}"
    [ -n "$ssh_keys" ] || return 0
    [ -n "${site[user]-}" ] || site_error "\`ssh_keys\` without \`user\`"
    while IFS= read -r line; do
        case $line in
            '' | ssh-*' '* | ecdsa-*' '* | sk-*' '*) ;;
            *) site_error "\`ssh_keys\`: \`${line:0:24}...\` is no public key" ;;
        esac
    done <<<"$ssh_keys"
}

# The key of the Wi-Fi in $wifi_psk: 64 hexadecimal digits, made here of the passphrase, so that the card holds only what
# opens this one network.
check_wifi() {
    local phrase=
    wifi_psk=
    case ${site[network.interface]-} in
        wlan0) [ -n "${site[wifi.ssid]-}" ] || site_error "\`network.interface\` is wlan0, without [wifi]" ;;
        wl*) site_error "\`network.interface\`: of Wi-Fi only wlan0 is known here" ;;
    esac
    if [ -z "${site[wifi.ssid]-}" ]; then
        [ -z "${site[wifi.psk_file]-}${site[wifi.psk_env]-}" ] || site_error "[wifi] without \`ssid\`"
        return 0
    fi
    [ "$(printf %s "${site[wifi.ssid]}" | wc -c)" -le 32 ] || site_error "\`wifi.ssid\`: more than 32 bytes"
    [ -n "${site[country]-}" ] || site_error "[wifi] needs \`country\`: the radio stays off until it knows whose rules to keep"
    if [ -n "${site[wifi.psk_file]-}" ] && [ -n "${site[wifi.psk_env]-}" ]; then
        site_error "[wifi]: \`psk_file\` or \`psk_env\`, not both"
    elif [ -n "${site[wifi.psk_env]-}" ]; then
        [[ ${site[wifi.psk_env]} =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || { site_error "\`wifi.psk_env\`: no name"; return 0; }
        phrase=$(printenv "${site[wifi.psk_env]}" || true)
        [ -n "$phrase" ] || site_error "\`wifi.psk_env\`: \$${site[wifi.psk_env]} is not set"
    elif [ -f "${site[wifi.psk_file]-}" ]; then
        phrase=$(head -n 1 "${site[wifi.psk_file]}")
    else
        return 0 # an open network, or an error that was told
    fi
    if [[ $phrase =~ ^[0-9a-fA-F]{64}$ ]]; then
        wifi_psk=${phrase,,}
    elif [ "${#phrase}" -lt 8 ] || [ "${#phrase}" -gt 63 ]; then
        site_error "[wifi]: a passphrase has 8 to 63 characters"
    else
        wifi_psk=$(printf '%s\n%s' "${site[wifi.ssid]}" "$phrase" | python3 -c '
import hashlib, sys
ssid, phrase = sys.stdin.buffer.read().split(b"\n")
print(hashlib.pbkdf2_hmac("sha1", phrase, ssid, 4096, 32).hex())')
    fi
}

# csv_rows FILE: each row as `key=value` fields ended by NUL, a row ended by an empty field. The first row names the keys;
# a field in double quotes may contain commas, a quote in it stands there twice.
csv_rows() {
    python3 - "$1" <<'PYTHON'
import csv, sys
with open(sys.argv[1], newline="", encoding="utf-8-sig") as file:
    rows = list(csv.reader(file, strict=True))
rows = [(number, row) for number, row in enumerate(rows, 1) if any(field.strip() for field in row)]
if not rows:
    sys.exit("error: the CSV has no row that names the keys")
keys = [key.strip() for key in rows[0][1]]
if "node" not in keys:
    sys.exit("error: the CSV's first row names no `node`")
if len(set(keys)) != len(keys):
    sys.exit("error: the CSV's first row names a key twice")
seen = set()
for number, row in rows[1:]:
    if len(row) != len(keys):
        sys.exit(f"error: row {number} of the CSV has {len(row)} fields, not {len(keys)}")
    pairs = dict(zip(keys, (field.strip() for field in row)))
    if pairs["node"] in seen:
        sys.exit(f"error: row {number} of the CSV: `{pairs['node']}` stands there twice")
    seen.add(pairs["node"])
    for key, value in pairs.items():
        if value:
            sys.stdout.write(f"{key}={value}\0")
    sys.stdout.write("\0")
PYTHON
}
