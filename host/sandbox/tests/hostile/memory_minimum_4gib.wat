;; Starts with the largest memory that there is.
;; expect: rejected
;; because: to start
(module (memory (export "memory") 65536) (func (export "_start")))
