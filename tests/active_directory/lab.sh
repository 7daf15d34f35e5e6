#!/usr/bin/env bash
# A Windows domain of its own on this machine: a Samba domain controller and a joined member with winbindd, in
# private network and mount namespaces. Nothing is written outside FOLDER; two labs at once do not interfere.
#
#   lab.sh up FOLDER [CACHE.tgz [OWNER]]   provision (or unpack CACHE), start; ends by itself when process OWNER does
#   lab.sh exec FOLDER COMMAND...          run as on the member: with its hosts file, krb5.conf and winbindd's socket
#   lab.sh dc FOLDER stop|start            the domain controller alone
#   lab.sh winbindd FOLDER stop|start      the member's winbindd alone
#   lab.sh partner FOLDER start [CACHE.tgz]|stop   another domain of another forest, which ours trusts and which trusts ours
#   lab.sh down FOLDER
#
# Needs root and the packages that tests/packages lists. The realm is CORP.EXAMPLE.TEST (CORP); the domain controller is
# dc1 at 127.0.0.53, the member GWHOST is gateway at 127.0.0.80. The partner is PARTNER.EXAMPLE.NET (PARTNER), its domain
# controller dc2 at 127.0.0.54. People and passwords are in seed.py.
set -euo pipefail

here=$(dirname "$(realpath "$0")")
action=$1
lab=$(realpath -m "$2")
shift 2

realm=CORP.EXAMPLE.TEST domain=corp.example.test workgroup=CORP
dc=dc1 dc_folder=$lab/dc dc_address=127.0.0.53
partner_realm=PARTNER.EXAMPLE.NET partner_domain=partner.example.net partner_address=127.0.0.54
member_address=127.0.0.80
administrator='Administrator%Adm1n-Passw0rd!'

# ---------------------------------------------------------------- files

write_controller_settings() {
  mkdir -p "$dc_folder"/{etc,private,state,cache,lock,run,log,ncalrpc,ntp,binddns,usershares,"sysvol/$domain/scripts"}
  cat >"$dc_folder/etc/smb.conf" <<END
[global]
    server role = active directory domain controller
    realm = $realm
    workgroup = $workgroup
    netbios name = ${dc^^}
    interfaces = $dc_address/8
    bind interfaces only = yes
    private dir = $dc_folder/private
    state directory = $dc_folder/state
    cache directory = $dc_folder/cache
    lock directory = $dc_folder/lock
    pid directory = $dc_folder/run
    ncalrpc dir = $dc_folder/ncalrpc
    ntp signd socket directory = $dc_folder/ntp
    binddns dir = $dc_folder/binddns
    usershare path = $dc_folder/usershares
    usershare max shares = 0
    log file = $dc_folder/log/samba.log
    logging = file
    log level = 1 auth_audit:3
    max log size = 0
    server services = s3fs rpc ldap cldap kdc winbindd
    dns update command = /bin/true
    spn update command = /bin/true
    samba kcc command = /bin/true
    load printers = no
    printing = bsd
    printcap name = /dev/null
    disable spoolss = yes
    disable netbios = yes
    panic action =
    ntlm auth = ntlmv2-only
    ldap server require strong auth = allow_sasl_over_tls
    prefork children = 2
    tls keyfile = $lab/tls/$dc.key
    tls certfile = $lab/tls/$dc.pem
    tls cafile = $lab/tls/ca.pem
    acl_xattr:security_acl_name = user.NTACL
    vfs objects = dfs_samba4 acl_xattr xattr_tdb
[sysvol]
    path = $dc_folder/sysvol
    read only = no
[netlogon]
    path = $dc_folder/sysvol/$domain/scripts
    read only = no
END
}

write_settings() {
  mkdir -p "$lab"/member/{private,state,cache,lock,run,log,ncalrpc} "$lab/tls"
  cat >"$lab/member/smb.conf" <<END
[global]
    security = ads
    realm = $realm
    workgroup = CORP
    netbios name = GWHOST
    interfaces = $member_address/8
    bind interfaces only = yes
    private dir = $lab/member/private
    state directory = $lab/member/state
    cache directory = $lab/member/cache
    lock directory = $lab/member/lock
    pid directory = $lab/member/run
    ncalrpc dir = $lab/member/ncalrpc
    log file = $lab/member/log/%m.log
    logging = file
    disable netbios = yes
    name resolve order = host
    password server = dc1.$domain
    idmap config * : backend = tdb
    idmap config * : range = 100000-199999
    idmap config CORP : backend = rid
    idmap config CORP : range = 200000-999999
    winbind max domain connections = 4
    winbind reconnect delay = 1
END
  cat >"$lab/krb5.conf" <<END
[libdefaults]
    default_realm = $realm
    dns_lookup_realm = false
    dns_lookup_kdc = false
    dns_canonicalize_hostname = false
    rdns = false
    udp_preference_limit = 1
[realms]
    $realm = {
        kdc = $dc_address:88
        kpasswd_server = $dc_address:464
    }
    $partner_realm = {
        kdc = $partner_address:88
    }
[domain_realm]
    .$domain = $realm
    $domain = $realm
    .$partner_domain = $partner_realm
    $partner_domain = $partner_realm
END
  cat >"$lab/hosts" <<END
127.0.0.1 localhost
$dc_address dc1.$domain dc1
$partner_address dc2.$partner_domain dc2
$member_address gateway.$domain gateway
$member_address other.$domain other
$member_address elsewhere.example.net
END
}

sign_certificates() {
  cd "$lab/tls"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 30 \
    -subj '/CN=Lab CA' -addext keyUsage=critical,keyCertSign,cRLSign
  for entry in "dc1.$domain $dc_address" "gateway.$domain $member_address" "dc2.$partner_domain $partner_address"; do
    read -r host address <<<"$entry"
    name=${host%%.*}
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$name.key" -out "$name.csr" -subj "/CN=$host"
    printf 'subjectAltName=DNS:%s,IP:%s\n' "$host" "$address" |
      openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile /dev/stdin -out "$name.pem"
  done
  chmod 600 ./*.key
  cd - >/dev/null
}

provision() {
  local quick
  quick=$(find /usr/lib -name libeatmydata.so -print -quit)
  LD_PRELOAD=$quick samba-tool domain provision -s "$dc_folder/etc/smb.conf" --quiet --realm="$realm" --domain="$workgroup" \
    --host-name="$dc" --host-ip="$dc_address" --adminpass="${administrator#*%}" --server-role=dc --dns-backend=NONE
  /usr/bin/python3 "$here/seed.py" "$dc_folder/etc/smb.conf" # the system's: it has Samba's modules
}

export_keytab() {
  samba-tool domain exportkeytab "$lab/http.keytab" -s "$dc_folder/etc/smb.conf" --principal="HTTP/gateway.$domain"
}

# CACHE WHAT...: the domain's files out of the cache; where there is none, WHAT makes them, and the cache
unpack() {
  local cache=$1
  shift
  if [ -n "$cache" ] && [ -f "$cache" ]; then
    tar -C "$lab" -xzf "$cache"
    return
  fi
  "$@" >>"$lab/provision.log" 2>&1
  if [ -n "$cache" ]; then
    (cd "$lab" && tar -czf "$cache.$$" "${dc_folder#"$lab/"}"/{private,state,sysvol})
    mv "$cache.$$" "$cache"
  fi
}

# ---------------------------------------------------------------- namespaces

# Three mount namespaces in one network namespace: the anchor's (the hosts file), and one more for each of the two, since
# each has winbindd's socket at the same fixed place, /run/samba.
open_namespaces() {
  # shellcheck disable=SC2016
  setsid unshare -m -n --propagation private bash -c '
    mount --bind "$1/hosts" /etc/hosts
    mkdir -p /run/samba
    ip link set lo up
    echo $$ >"$1/anchor.pid"
    while kill -0 "${2:-$$}" 2>/dev/null; do sleep 1; done
    exec "$3" down "$1"' anchor "$lab" "${1:-}" "$here/lab.sh" >"$lab/anchor.log" 2>&1 </dev/null &
  wait_until "[ -s '$lab/anchor.pid' ]"
}

inside() { # WHO COMMAND...: in the namespaces of the process whose pid is in WHO.pid
  local who=$1
  shift
  nsenter -t "$(cat "$lab/$who.pid")" -m -n --wd="$PWD" -- env KRB5_CONFIG="$lab/krb5.conf" "$@"
}

beside_anchor() { # WHO LOG COMMAND...: a daemon in a mount namespace of its own
  local who=$1 log=$2
  shift 2
  # shellcheck disable=SC2016
  inside anchor setsid unshare -m --propagation private bash -c '
    mount -t tmpfs tmpfs /run/samba
    echo $$ >"$1"
    shift
    exec "$@"' daemon "$lab/$who.pid" "$@" >>"$log" 2>&1 </dev/null &
}

wait_until() {
  for _ in $(seq 1000); do
    if eval "$1" >/dev/null 2>&1; then return; fi
    sleep 0.03
  done
  echo "lab.sh: still not so: $1" >&2
  exit 1
}

# ---------------------------------------------------------------- who is in it

start_dc() {
  local who=${dc_folder#"$lab/"}
  rm -f "$lab/$who.pid"
  beside_anchor "$who" "$dc_folder/log/stdout" samba -s "$dc_folder/etc/smb.conf" -F --no-process-group
  wait_until "[ -s '$lab/$who.pid' ] && inside $who wbinfo -t"
  for port in 88 135 389 445 636; do wait_until "inside $who bash -c ': </dev/tcp/$dc_address/$port'"; done
}

start_winbindd() {
  rm -f "$lab/member.pid"
  beside_anchor member "$lab/member/log/stdout" winbindd -s "$lab/member/smb.conf" -F --no-process-group
  wait_until "[ -s '$lab/member.pid' ] && inside member wbinfo -t"
}

runs() { [ -s "$lab/$1.pid" ] && kill -0 "$(cat "$lab/$1.pid")" 2>/dev/null; }

stop() { # WHO: the whole session that setsid began
  local pid
  pid=$(cat "$lab/$1.pid")
  kill -TERM -- "-$pid" 2>/dev/null || true
  wait_until "! pgrep -g $pid"
}

join_member() {
  inside anchor net ads join -s "$lab/member/smb.conf" -U "$administrator" -S "dc1.$domain" --no-dns-updates
}

lock_out() { # for real, at every start: a lock lasts half an hour, a cache longer
  for _ in 1 2 3 4 5 6; do inside member wbinfo -a "CORP\\$1%wrong" || true; done
}

down() {
  local anchor space others
  anchor=$(cat "$lab/anchor.pid" 2>/dev/null) || return 0
  space=$(readlink "/proc/$anchor/ns/net") || return 0
  [ "$space" != "$(readlink "/proc/1/ns/net")" ] || return 0
  others() {
    for process in /proc/[0-9]*; do
      if [ "$(readlink "$process/ns/net" 2>/dev/null)" = "$space" ] && [ "${process#/proc/}" != $$ ]; then echo "${process#/proc/}"; fi
    done
  }
  # Samba leaves helpers behind whose parent is 1, so everything in the network namespace is told
  # shellcheck disable=SC2046
  kill -TERM $(others) 2>/dev/null || true
  for _ in $(seq 100); do
    [ -n "$(others)" ] || break
    sleep 0.03
  done
  # shellcheck disable=SC2046
  kill -KILL $(others) 2>/dev/null || true
  rm -f "$lab"/*.pid
}

up() {
  local cache=${1:-}
  mkdir -p "$lab"
  write_controller_settings
  write_settings
  sign_certificates >"$lab/certificates.log" 2>&1
  unpack "$cache" provision
  export_keytab
  open_namespaces "${2:-}"
  start_dc
  join_member >"$lab/member/log/join" 2>&1
  start_winbindd
  lock_out locked >/dev/null 2>&1
}

partner() {
  local ours=$dc_folder/etc/smb.conf
  realm=$partner_realm domain=$partner_domain workgroup=PARTNER
  dc=dc2 dc_folder=$lab/partner dc_address=$partner_address
  local trust=(inside member /usr/bin/python3 "$here/trust.py")
  if [ "$1" = stop ]; then
    "${trust[@]}" end "$ours" "$dc_folder/etc/smb.conf"
    stop partner
  else
    write_controller_settings
    unpack "${2:-}" provision
    start_dc
    "${trust[@]}" begin "$ours" "$dc_folder/etc/smb.conf"
  fi
}

case $action in
  up) up "$@" ;;
  exec) inside member "$@" ;;
  dc) if [ "$1" = stop ]; then stop dc; elif ! runs dc; then start_dc; fi ;;
  winbindd) if [ "$1" = stop ]; then stop member; elif ! runs member; then start_winbindd; fi ;;
  partner) partner "$@" ;;
  down) down ;;
  *) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
