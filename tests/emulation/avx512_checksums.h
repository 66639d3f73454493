struct { const char* name; unsigned long long sum; } const kAvx512Checksums[] = {{"", 0}};
