/* A make-believe libnvidia-ml.so.1: two GPUs called stub, so that tests exercise the real binding without a GPU. */
#include <stdio.h>

typedef unsigned int u32;
typedef unsigned long long u64;
typedef struct { u64 total, free, used; } Memory;
typedef struct { u32 gpu, memory; } Utilisation;

enum { OK = 0, INVALID_ARGUMENT = 2, COUNT = 2 };
static int devices[COUNT] = {0, 1};

int nvmlInitWithFlags(u32 flags) { (void)flags; return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { (void)code; return "error of the stub"; }

int nvmlSystemGetDriverVersion(char *text, u32 size) { snprintf(text, size, "0.0-stub"); return OK; }
int nvmlDeviceGetCount_v2(u32 *count) { *count = COUNT; return OK; }

int nvmlDeviceGetHandleByIndex_v2(u32 index, int **device) {
    if (index >= COUNT) return INVALID_ARGUMENT;
    *device = &devices[index];
    return OK;
}

int nvmlDeviceGetName(int *device, char *text, u32 size) { (void)device; snprintf(text, size, "stub"); return OK; }
int nvmlDeviceGetUUID(int *device, char *text, u32 size) { snprintf(text, size, "GPU-stub-%d", *device); return OK; }

int nvmlDeviceGetMemoryInfo(int *device, Memory *memory) {
    memory->total = 24000000000ULL;
    memory->used = *device == 0 ? 3000000000ULL : 0;
    memory->free = memory->total - memory->used;
    return OK;
}

int nvmlDeviceGetUtilizationRates(int *device, Utilisation *rates) {
    rates->gpu = *device == 0 ? 37 : 0;
    rates->memory = 5;
    return OK;
}
