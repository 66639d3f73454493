#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs the native tests on an emulated Intel Tiger Lake (Bochs): AVX-512 VNNI by its real encodings,
# found through CPUID, under a Linux kernel. About 6 minutes of one core. Needs Debian 12 and its
# packages:
#
#   apt-get install bochs bochsbios vgabios isolinux syslinux-common xorriso cpio cmake g++
#
# usage: tests/emulation/bochs/run.sh [build folder]
# KERNEL=vmlinuz: another kernel than Debian's linux-image-cloud-amd64, which is otherwise downloaded
# and unpacked, not installed.
set -eu

root=$(cd "$(dirname "$0")/../../.." && pwd)
work=${1:-$root/build/bochs}
mkdir -p "$work"
cd "$work"

cmake -S "$root" -B native -DCMAKE_BUILD_TYPE=Release -DQKERNELS_TESTS=ON \
  -DCMAKE_EXE_LINKER_FLAGS=-static >cmake.log
cmake --build native --target qkernels_tests -j "$(nproc)" >>cmake.log
gcc -O2 -Wall -Wextra -static "$root/tests/emulation/bochs/init.c" -o init
g++ -std=c++17 -O2 -ffp-contract=off -static -mavx512f -mavx512bw -mavx512vl -mavx512dq \
  -mavx512vnni -mf16c -mamx-tile -mamx-int8 "$root"/tests/emulation/*.cc -o model_tests

if [ -z "${KERNEL:-}" ]; then
  package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ {print $2}')
  [ -d "kernel/$package" ] || {
    apt-get download "$package" >/dev/null
    mkdir -p kernel
    dpkg-deb -x "$package"_*.deb "kernel/$package"
  }
  KERNEL=$(echo "kernel/$package"/boot/vmlinuz-*)
fi

# The disc: a boot loader, the kernel, and an initial RAM disk that holds the tests and nothing else.
rm -rf ram disc
mkdir -p ram/dev disc
cp init ram/init
cp native/tests/cpp/qkernels_tests model_tests ram/
strip ram/qkernels_tests ram/model_tests
cat >ram/commands <<END
/model_tests avx512
QKERNELS_EXPECT_TIERS=scalar,avx2,avx512vnni /qkernels_tests
END
(cd ram && find . | cpio -o -H newc --quiet) | gzip -1 >disc/initrd.gz
cp "$KERNEL" disc/vmlinuz
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 disc/
# clearcpuid: Bochs 2.7 reports sizes of compacted XSAVE areas that the kernel refuses, protection
# keys without their state, and fast short "rep movsb" while fast strings are off.
cat >disc/isolinux.cfg <<END
default linux
label linux
kernel vmlinuz
initrd initrd.gz
append console=ttyS0 quiet mitigations=off nokaslr nosmp panic=-1 tsc=reliable no_timer_check lpj=1000000 random.trust_cpu=on clearcpuid=pku,xsaves,xsavec,fsrm
END
xorriso -as mkisofs -quiet -o tests.iso -b isolinux.bin -c boot.cat -no-emul-boot \
  -boot-load-size 4 -boot-info-table disc 2>/dev/null

cat >bochsrc <<END
cpu: model=tigerlake, count=1, ips=50000000, reset_on_triple_fault=0
memory: guest=512, host=512
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path=tests.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=serial.txt
display_library: rfb, options="timeout=0"
clock: sync=none
log: bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
END
# Debian's Bochs has its debugger built in and waits for a command.
echo c >continue
rm -f serial.txt
timeout 1800 bochs -q -f bochsrc -rc continue >console.txt 2>&1 </dev/null || true
grep -a -v '^\[ *[0-9]*\.' serial.txt || true
grep -a -q '^\[guest\] all passed' serial.txt
