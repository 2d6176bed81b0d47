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
    ids) xeno list | awk 'NR > 1 { print $1, $2 }' ;;
    alone) until_true '[ $(xeno list | wc -l) = 2 ]' ;;
    free) xeno info --json | sed -n 's/.*"free_bytes": *\([0-9]*\).*/\1/p' ;;
    disk) sha256sum /var/lib/guests/guest1.img ;;
    fsck) e2fsck -p /var/lib/guests/guest1.img || [ $? = 1 ] && e2fsck -fn /var/lib/guests/guest1.img ;;
    guest)
        name=$1
        shift
        xeno create --name "$name" --kernel /boot/vmlinuz --initrd /boot/guest-initrd.img --memory ${memory:-96M} \
            --cmdline "console=hvc0 quiet hostname=$name" "$@"
        ;;
    id) xeno list | awk -v name="$1" '$1 == name { print $2 }' ;;
    # Takes the back end of a guest's disk away: its driver, or its nodes.
    unbind) echo "vbd-$(story id "$1")-$2" > /sys/bus/xen-backend/drivers/vbd/unbind ;;
    unback) xeno store rm "/local/domain/0/backend/vbd/$(story id "$1")/$2" ;;
    flushes) awk '{ print $16 }' "/sys/block/$1/stat" ;;
    # Guests come and go as long as the others are at work: a small kernel of our own with a disk.
    churn)
        made=0
        truncate -s 1M /tmp/churn.img
        while [ -e /tmp/traffic ]; do
            xeno create --name churn --kernel /boot/talk --memory 8M --disk /tmp/churn.img && made=$((made + 1))
            xeno destroy churn
        done > /dev/null 2>&1
        xeno destroy churn > /dev/null 2>&1
        echo $made > /tmp/churned
        ;;
    # This domain's vCPUs, all but the first, go and come for as long.
    hotplug)
        times=0
        while [ -e /tmp/traffic ]; do
            for on in 0 1; do
                for cpu in /sys/devices/system/cpu/cpu[1-9]*/online; do
                    echo $on > $cpu || touch /tmp/refused
                done
            done
            times=$((times + 1))
        done
        [ -e /tmp/refused ] && times="refused after $times"
        echo $times > /tmp/hotplug
        ;;
    # Those of the guest named four, too.
    plugged)
        times=0
        while [ -e /tmp/traffic ]; do
            for on in 1 4; do
                xeno set four vcpus=$on
                until_true "xeno info four | grep -q '^vcpus  *$on of at most 4'" && times=$((times + 1))
            done
        done > /dev/null 2>&1
        echo $times > /tmp/plugged
        ;;
    # All frames are recounted for as long: whatever is being done, each has its place.
    recount)
        times=0
        while [ -e /tmp/traffic ]; do
            audit | grep -qx 'mismatches 0' || touch /tmp/miscounted
            times=$((times + 1))
            sleep 1
        done
        [ -e /tmp/miscounted ] && times="wrong counts in $times"
        echo $times > /tmp/recounted
        ;;
    # What was acknowledged is there; what was not may be.
    tell)
        told=0
        wrong=0
        xeno store write /told 0
        while [ -e /tmp/traffic ]; do
            tried=$((told + 1))
            xeno store write /told $tried && told=$tried
            found=$(xeno store read /told) || continue
            [ "$found" = $told ] || [ "$found" = $tried ] || wrong=$((wrong + 1))
            told=$found
        done 2> /dev/null
        echo "$told told, $wrong wrong" > /tmp/told
        ;;
    # Lines of one that counts: neither lost nor repeated.
    ticks)
        xeno console "$1" --past | tr -d '\r' | awk '
            /^tick [0-9]+$/ { if (seen && $2 != last + 1) wrong++; last = $2; seen++ }
            END { print (seen > 100 ? "many" : seen + 0) " ticks, " wrong + 0 " wrong" }'
        ;;
    # Kills the daemon, and waits for the next; with something done while it stands still before that.
    again) story frozen true ;;
    frozen)
        old=$(pidof xenod)
        kill -STOP $old
        eval "$1"
        kill -9 $old
        for try in $(seq 200); do
            new=$(pidof xenod) && [ "$new" != "$old" ] && break
            sleep 0.1
        done
        until_true 'xeno list > /dev/null'
        ;;
    # Kills it so often while guests come and go, so that entries are always being made.
    amid)
        touch /tmp/traffic
        story churn &
        churn=$!
        for round in $(seq "$1"); do
            usleep $((RANDOM % 900 * 1000))
            story again
        done
        rm /tmp/traffic
        wait $churn
        until_true 'xeno list > /dev/null'
        echo "$1 deaths amid $(cat /tmp/churned) guests"
        ;;
    # Does something to a copy of the usage record, and verifies that; the daemon stands still, so that it stays a copy.
    tamper)
        old=$(pidof xenod)
        kill -STOP $old
        rm -rf /tmp/copy
        cp -a /var/lib/xeno/ledger /tmp/copy
        cd /tmp/copy
        file=$(ls | tail -n 1)
        lines=$(wc -l < $file)
        eval "$1"
        xeno ledger verify --dir /tmp/copy
        echo "code $?"
        kill -CONT $old
        ;;
    # Has it go on elsewhere.
    ledger)
        echo "--ledger $1 --interval 1" > /run/xeno/options
        story frozen "cp -a /var/lib/xeno/ledger $1; sync"
        ;;
    # The module goes and comes again while processes use its device.
    reload)
        rm -f /tmp/raced
        { devxeno race "$1"; echo $? > /tmp/raced; } &
        gone=0
        while [ ! -e /tmp/raced ]; do
            rmmod xeno 2> /dev/null && gone=$((gone + 1))
            modprobe xeno
        done
        wait
        rmmod xeno && [ ! -e /dev/xeno ] && modprobe xeno && [ -e /dev/xeno ] || echo 'it does not come and go'
        echo "status $(cat /tmp/raced), gone $gone times"
        ;;
    interrupt) printf '\003' | xeno console "$1" --last 0 --timeout 2 > /dev/null ;;
    # Kills the daemon so often, at any moment of what it does.
    kill)
        lost=0
        touch /tmp/traffic
        story churn &
        churn=$!
        story tell &
        tell=$!
        for round in $(seq "$1"); do
            xeno store write "/test/$round" "$round" || lost=$((lost + 1))
            usleep $((RANDOM % 600 * 1000))
            old=$(pidof xenod)
            kill -9 $old
            for try in $(seq 200); do
                new=$(pidof xenod) && [ "$new" != "$old" ] && break
                sleep 0.1
            done
            [ "$(xeno store read "/test/$round")" = "$round" ] || lost=$((lost + 1))
        done
        rm /tmp/traffic
        wait $churn $tell
        echo "$(cat /tmp/churned) made; $(cat /tmp/told)"
        echo "lost $lost"
        ;;
esac
