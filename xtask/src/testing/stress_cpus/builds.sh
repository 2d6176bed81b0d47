#!/bin/sh
# Builds all there is in /usr/src, four at once, until /tmp/enough is there: it is the same each time.
cd /usr/src
builds=0
wrong=0
while [ ! -e /tmp/enough ]; do
    rm -f *.o *.c
    make -s -j 4 > /tmp/said 2>&1 || wrong=$((wrong + 1))
    sum=$(cat *.o | sha256sum)
    [ "$sum" = "${first:=$sum}" ] || wrong=$((wrong + 1))
    builds=$((builds + 1))
    # Somebody waits for the first.
    echo "$builds builds, $wrong wrong" > /tmp/builds
done
