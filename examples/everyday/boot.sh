# What the simulated board runs while its power is on: a boot log, a login prompt, and a shell.
printf 'U-Boot SPL 2024.01\nHit any key to stop autoboot:  2\n'
printf '[    0.000000] Linux version 6.6.1 (builder@ci) #1 SMP\n'
sleep 0.2
printf '[    1.200001] EXT4-fs (mmcblk0p2): mounted filesystem\nWelcome to Board OS 1.2.3\n'
while :; do
    printf '\nboard login: '
    read -r user
    printf 'Password: '
    stty -echo
    read -r password
    stty echo
    printf '\n'
    if [ "$user $password" = 'root s3cr3t' ]; then
        PS1='root@board:\w# ' bash --noprofile --norc -i
    else
        printf 'Login incorrect\n'
    fi
done
