#include "qcore/base/thread_pool.h"  // where it was before there were folders
