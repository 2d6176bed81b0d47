#!/bin/sh
# What the stories of a control domain with guests do again and again: `story up guest1`.
until_true() {
    for try in $(seq 200); do
        eval "$1" && return 0
        sleep 1
    done
    eval "$1"
}
verb=$1
shift
case $verb in
    until) until_true "$1" ;;
    up) until_true "xeno console $1 --past 2>/dev/null | grep -q '$1:~# '" ;;
    type) echo "$2" | xeno console "$1" --last 0 --timeout 2 > /dev/null ;;
    says) until_true "xeno console $1 --past | tr -d '\r' | grep -qx '$2'" ;;
    names) xeno list | sed 1d | cut -d' ' -f1 ;;
    ids) xeno list | sed 1d | cut -c1-24 ;;
    alone) until_true '[ $(xeno list | wc -l) = 2 ]' ;;
    free) xeno info --json | sed -n 's/.*"free_bytes": *\([0-9]*\).*/\1/p' ;;
    disk) sha256sum /var/lib/guests/guest1.img ;;
    fsck) e2fsck -p /var/lib/guests/guest1.img || [ $? = 1 ] && e2fsck -fn /var/lib/guests/guest1.img ;;
    reader)
        xeno create --name reader --kernel /boot/vmlinuz --initrd /boot/guest-initrd.img --memory 96M \
            --cmdline 'console=hvc0 quiet hostname=reader' --disk /var/lib/guests/guest1.img,ro
        ;;
    kill)
        lost=0
        for round in $(seq "$1"); do
            xeno store write "/test/$round" "$round" || lost=$((lost + 1))
            old=$(pidof xenod)
            kill -9 $old
            for try in $(seq 100); do
                new=$(pidof xenod) && [ "$new" != "$old" ] && break
                sleep 0.1
            done
            [ "$(xeno store read "/test/$round")" = "$round" ] || lost=$((lost + 1))
        done
        echo "lost $lost"
        ;;
esac
